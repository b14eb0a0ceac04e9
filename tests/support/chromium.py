"""A browser for tests of pages.

Skipped where there is no Chromium, and an error there with JAXACT_BROWSER=required, as in CI. With
JAXACT_SCREENSHOTS=FOLDER the pictures stay for someone to look at.
"""

import contextlib
import os
import shutil
from pathlib import Path

import pytest


def missing(what):
    """Without a browser there is nothing to see, which CI must not take for a success."""
    if os.environ.get("JAXACT_BROWSER") == "required":
        pytest.fail(f"JAXACT_BROWSER=required, but {what}")
    pytest.skip(what)


@contextlib.contextmanager
def launched(*arguments):
    """A browser, for a fixture."""
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError:
        missing("playwright is missing: pip install playwright")
    names = ("chromium", "chromium-browser", "google-chrome")
    installed = next(filter(None, map(shutil.which, names)), None)
    with sync_playwright() as playwright:
        try:
            # Root, as whom containers run, has no sandbox. The page is our own.
            found = playwright.chromium.launch(
                executable_path=installed, args=["--no-sandbox", *arguments]
            )
        except Error as error:
            missing(f"there is no Chromium: playwright install chromium ({error.message[:60]})")
        yield found
        found.close()


def screenshots(otherwise):
    """The folder for pictures."""
    folder = Path(os.environ.get("JAXACT_SCREENSHOTS", otherwise))
    folder.mkdir(parents=True, exist_ok=True)
    return folder
