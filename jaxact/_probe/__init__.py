"""Looking into an unmodified model: `jaxact.probe`, `jaxact.swap`, `jaxact.revive`.

A model is traced, its activations are found in the jaxpr, and the jaxpr is evaluated with something
else at them. In the order in which the data meets them:

- a *function* (`patterns.Function`) is what is known of an activation whoever calls it: its name in
  `jaxact.ACTIVATIONS`, its slope. A *pattern* (`patterns.Pattern`) is how it looks as a *graph*
  (`graph.Graph`), the normal form in which a jaxpr is compared with it;
- `trace.Traced` is a call of a model, traced: its *level*, its arguments, and the way back from the
  jaxpr's results to what the call returns;
- a `sites.Level` is a jaxpr with what was found in it: each a `sites.Found`, an activation by the
  variables that it reads and makes, or a `sites.Nested`, an equation with further levels inside;
- a `Place` says of one activation what a user may know before anything runs: its number, path,
  function, shape, source line. Selectors and ``axis`` functions see places;
- a `Site` is a place with the statistics of what it has seen. A report holds one for each place,
  of all steps of the scans around it at once, and shows one for each step;
- a `Summary` is a site in a few figures, those that tables, pictures and advice are made of.

`trace` makes the first four; `evaluate` runs a level with a visitor at its activations, which
`probe` and `swap` are; `wiring` finds the parameters around activations, for `revive` alone. Place,
site and summary belong to the report, which knows no jaxpr.
"""
