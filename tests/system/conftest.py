import shutil

import foreign_pages
import pytest


@pytest.fixture(scope="module")
def browser():
    """Debian's Chromium, or Google's, without a window."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make setup")
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("no chromium, chromium-browser or google-chrome on PATH")
    with sync_api.sync_playwright() as started:
        running = started.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu", foreign_pages.BROWSER])
        yield running
        running.close()
