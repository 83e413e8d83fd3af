"""Headless Chromium, driven by Playwright."""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

LIGHT = "localStorage.setItem('color-scheme', '\"light\"')"  # Prefect's UI is dark by default
MISSING = "there is no Chromium: `apt-get install chromium`, or `playwright install chromium`"


@contextmanager
def opened() -> Iterator[Page]:
    """An empty page. The browser is the machine's own, else Playwright's."""
    with sync_playwright() as playwright:
        found = shutil.which("chromium") or shutil.which("google-chrome") or playwright.chromium.executable_path
        if not Path(found).exists():
            sys.exit(MISSING)
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium's own refuses root
        browser = playwright.chromium.launch(executable_path=found, args=sandbox)
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.add_init_script(LIGHT)
        yield page
        browser.close()
