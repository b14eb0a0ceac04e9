"""Reading any jaxpr: where its equations come from, and how they call other jaxprs."""
