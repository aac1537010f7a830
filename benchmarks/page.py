"""How quickly the page answers, as a person sees it.

    masqclip serve &
    python benchmarks/page.py

Times run from a key press to the drawn legend, in headless Chromium against a running service.
"""

from __future__ import annotations

import shutil
import statistics
import time

import cyclopts
from playwright.sync_api import Browser, Page, Playwright, sync_playwright

_CHROMIUM = shutil.which("chromium")  # the system's; without it Playwright's own
WORDS = ("car", "snake", "tulip")


def launch(playwright: Playwright) -> Browser:
    """Start headless Chromium."""
    options = ["--no-sandbox"] if _CHROMIUM else []
    return playwright.chromium.launch(executable_path=_CHROMIUM, args=options)


def add(page: Page, name: str) -> None:
    """Type a name."""
    page.get_by_label("Add names").fill(name)
    page.get_by_label("Add names").press("Enter")


def shown(page: Page, name: str) -> None:
    """Wait until the legend has a name, and the picture is drawn."""
    page.locator(f'#legend [data-name="{name}"]').wait_for()
    page.evaluate("new Promise(requestAnimationFrame)")


def main(*, url: str = "http://127.0.0.1:8000", rounds: int = 8) -> None:
    """Measure the first answer and those after a change of words.

    Args:
        url: of the service.
        rounds: changes of each word.
    """
    with sync_playwright() as playwright:
        browser = launch(playwright)
        page = browser.new_page(viewport={"width": 1280, "height": 900}, color_scheme="light")
        page.goto(url)
        add(page, "rocket")
        started = time.perf_counter()
        page.get_by_role("button", name="Beach").click()
        shown(page, "rocket")
        first = 1000 * (time.perf_counter() - started)
        print(f"first answer, with upload and encoding: {first:.0f} ms")
        times = []
        for word in WORDS * rounds:
            page.get_by_label("Add names").fill(word)
            started = time.perf_counter()
            page.get_by_label("Add names").press("Enter")
            shown(page, word)
            times.append(1000 * (time.perf_counter() - started))
            page.get_by_role("button", name=f"Remove {word}").click()
            page.locator(f'#legend [data-name="{word}"]').wait_for(state="detached")
        times.sort()
        print(
            f"another word, {len(times)} times: median {statistics.median(times):.0f} ms, "
            f"p95 {times[int(0.95 * (len(times) - 1))]:.0f} ms, longest {times[-1]:.0f} ms"
        )
        browser.close()


if __name__ == "__main__":
    cyclopts.run(main)
