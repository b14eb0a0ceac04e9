"""Which activation does my problem want, and is the difference real?

``jaxact compare`` on the command line; from Python:

    from jaxact import compare

    results = compare.compare(compare.Settings(epochs=10), compare.load(), "out")
    print(compare.markdown(results))

Needs the packages of the extra ``cli``.
"""

from jaxact._errors import CompareError as CompareError
from jaxact.compare.data import Dataset as Dataset, load as load
from jaxact.compare.report import markdown as markdown
from jaxact.compare.results import Results as Results
from jaxact.compare.run import compare as compare
from jaxact.compare.training import Settings as Settings
