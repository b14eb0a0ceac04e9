"""Which activation does my problem want, and is the difference real?

``jaxact compare`` on the command line; from Python:

    from jaxact import compare

    results = compare.compare(compare.Settings(epochs=10), compare.load(), "out")
    print(compare.markdown(results))

Needs the packages of the extra ``cli``.

The modules, each of which imports those above it only:

    data        a file's samples: read, checked, split, standardised
    model       the network that is trained, and the activations that fit into it
    training    the arms: what is trained, and what comes out of one
    devices     which device trains which networks
    processes   several processes that run the same comparison (imports none of the others)
    statistics  intervals, differences, verdicts
    results     results.json
    report      the table and the picture
    run         a comparison from beginning to end
"""

from jaxact._errors import CompareError as CompareError
from jaxact.compare.data import Dataset as Dataset, load as load
from jaxact.compare.report import markdown as markdown
from jaxact.compare.results import Results as Results
from jaxact.compare.run import compare as compare
from jaxact.compare.training import Settings as Settings
