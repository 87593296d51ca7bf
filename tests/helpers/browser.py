"""A real browser without a network, and what it says of a page."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")


@dataclass
class Opened:
    """A page that is open, and all that its console or its network had to say."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)  # beside that for the page itself

    def overflow(self) -> int:
        """CSS pixels by which the page is wider than the window."""
        return int(self.page.evaluate("document.documentElement.scrollWidth - window.innerWidth"))


def find_browser() -> str:
    """The browser's file. Raises AssertionError where none is installed."""
    found = os.environ.get("FINETUNE_BROWSER") or next((one for name in NAMES if (one := shutil.which(name))), None)
    assert found, "no Chromium here: make ready installs it, or FINETUNE_BROWSER names one"
    return found


@contextmanager
def browser() -> Iterator[Browser]:
    """A headless browser. Root has no sandbox, and what it opens is ours."""
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(
            executable_path=find_browser(),
            args=["--no-sandbox", "--disable-dev-shm-usage", "--font-render-hinting=none"],
        )
        try:
            yield running
        finally:
            running.close()


@contextmanager
def opened(running: Browser, file: Path, width: int = 1200, height: int = 900, dark: bool = False) -> Iterator[Opened]:
    """A file in a window of a size in CSS pixels, with no network at all."""
    context = running.new_context(
        viewport={"width": width, "height": height}, offline=True, color_scheme="dark" if dark else "light"
    )
    try:
        shown = Opened(context.new_page())
        address = file.resolve().as_uri()
        shown.page.on("console", lambda message: shown.complaints.append(message.text))
        shown.page.on("pageerror", lambda error: shown.complaints.append(str(error)))
        shown.page.on("request", lambda one: shown.requests.append(one.url) if one.url != address else None)
        shown.page.goto(address)
        yield shown
    finally:
        context.close()
