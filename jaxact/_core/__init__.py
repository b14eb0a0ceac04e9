"""The machinery behind the functions: declaration, differentiation, numerics, random slopes."""
