"""``python -m website``: writes what ``mkdocs build`` reads and git does not have."""

import shutil
import time
from pathlib import Path

from website import functions, notebooks, pages

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


def main() -> None:
    """Write all of it anew."""
    for folder in ("figures", "functions", "notebooks"):
        shutil.rmtree(DOCS / folder, ignore_errors=True)
    started = time.perf_counter()
    for what, write in (
        ("figures of the pages", lambda: pages.write(DOCS)),
        ("functions", lambda: functions.write(DOCS / "functions")),
        ("notebooks", lambda: notebooks.write(ROOT / "notebooks", DOCS)),
    ):
        write()
        print(f"{what}: after {time.perf_counter() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
