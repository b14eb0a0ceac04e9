"""Which activation does my problem want, and is the difference real?

``jaxact compare`` on the command line; from Python:

    from jaxact import compare

    settings = compare.Settings(activations=("relu", "gelu"), epochs=10)
    results = compare.compare(settings, compare.load("pets.csv", "kind"), "out")
    print(*results.conclusion(), sep="\\n")

`models` compares activations in any JAX model, with its own loss and data.

Needs the packages of the extra ``cli``.

The modules, each of which imports those above it only:

    study         what is asked, and the figures that came out; scores
    files, names, archives, notation, typed_tables, text_tables
                  files, read as they are; everything that is wrong with one
    dates, columns, targets
                  what is made of a column
    dataset, arrays, splitting, data
                  the samples, prepared and split
    activations   the arms: checked, told apart, made into layers
    settings      what a study is asked to train, and its sweeps
    model, own    the networks: built in, or a Flax model of the user's
    tasks         how good predictions are
    training      all networks of a compiled program at once
    models        any JAX model with its own loss
    cost, budget  what a step takes; how many seeds fit into a time
    devices       which device trains which networks
    processes     several processes that run the same comparison (imports none of the others)
    intervals, paired_tests, statistics
                  what the runs of a study say
    wording, sweep_conclusions, conclusions
                  the same in sentences
    results       results.json
    formats, labels, grid, swept, table
                  the table, in a terminal and in Markdown
    svg, panels, drawings, page
                  the pictures, and report.html
    run           a comparison from beginning to end
"""

from jaxact._errors import CompareError as CompareError
from jaxact.compare.conclusions import conclude as conclude
from jaxact.compare.data import Dataset as Dataset, load as load
from jaxact.compare.models import models as models
from jaxact.compare.results import Results as Results
from jaxact.compare.run import compare as compare, write_reports as write_reports
from jaxact.compare.settings import Settings as Settings, read_sweep as read_sweep
from jaxact.compare.statistics import summarize as summarize
from jaxact.compare.study import Study as Study, Sweep as Sweep
from jaxact.compare.table import markdown as markdown, render as render
