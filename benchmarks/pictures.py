"""The pictures of the documentation, so that they show what the package does today.

    python benchmarks/pictures.py                                     # docs/example.jpg
    masqclip serve &
    python benchmarks/pictures.py --page-of http://127.0.0.1:8000     # and docs/page/

The page is drawn in headless Chromium at the widths of a telephone, a tablet and a desk, light and
dark, and once more with a name of 300 letters and a list of 850 names.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import cyclopts
from PIL import Image
from playwright.sync_api import Browser, ViewportSize, sync_playwright

from masqclip.clip.vocabulary import Vocabulary
from masqclip.data.images import read_image
from masqclip.segmenter import Segmenter
from page import add, launch, shown

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
SIZES = ((390, 844), (768, 1024), (1440, 900))
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
_SCENES = ("beach", "night-shore", "avenue")
_WORDS = ("rocket", "car", "snake", "tulip", "stuff: sand")
_SHOWN = (
    "rocket, tulip, snake, car, unicorn, shark, dragon, crocodile, snowflake, wind face, comet, "
    "panda, owl, chick, water buffalo, bank, volcano, film frames, "
    "stuff: sand, stuff: night sky, stuff: water, stuff: autumn leaves, stuff: road"
)
_EDGE, _GAP = 480, 8


def scenes(out: Path) -> None:
    """Three scenes, and below them what the shipped model finds of what any of them shows."""
    segmenter = Segmenter.from_pretrained("masqclip-mini", device="cpu", cache=False)
    names = Vocabulary.parse(_SHOWN)
    side = _EDGE + _GAP
    sheet = Image.new("RGB", (3 * side - _GAP, 2 * side - _GAP), "white")
    for column, name in enumerate(_SCENES):
        path = ROOT / "examples" / f"{name}.png"
        found = segmenter(path, names, "panoptic").plot()
        for row, picture in enumerate((Image.fromarray(read_image(path).pixels), found)):
            sheet.paste(picture.resize((_EDGE, _EDGE)), (column * side, row * side))
    sheet.save(out, quality=88)


def page(url: str, out: Path, browser: Browser) -> None:
    """The page with an answer, at every size, light and dark; and with names that are too long."""
    out.mkdir(exist_ok=True)
    for size in SIZES:
        for scheme in SCHEMES:
            _screenshot(url, browser, size, scheme, _WORDS, out / f"{size[0]}-{scheme}.jpg")
    long = (*_WORDS, "x" * 300, ", ".join(f"thing {number}" for number in range(850)))
    _screenshot(url, browser, SIZES[0], "light", long, out / "long-names.jpg")


def _screenshot(
    url: str,
    browser: Browser,
    size: tuple[int, int],
    scheme: Literal["light", "dark"],
    words: Sequence[str],
    file: Path,
) -> None:
    view = browser.new_page(
        viewport=ViewportSize(width=size[0], height=size[1]), color_scheme=scheme
    )
    view.goto(url)
    view.get_by_role("button", name="Beach").click()
    for word in words:
        add(view, word)
    shown(view, "sand")
    view.mouse.move(0, 0)
    view.evaluate("document.activeElement.blur(); window.scrollTo(0, 0)")
    view.wait_for_timeout(2000)
    view.screenshot(path=file, type="jpeg", quality=85, full_page=True)
    view.close()


def main(*, page_of: str | None = None) -> None:
    """Draw them.

    Args:
        page_of: the address of a running service; without it the page is left as it is.
    """
    scenes(DOCS / "example.jpg")
    if page_of is not None:
        with sync_playwright() as playwright:
            browser = launch(playwright)
            page(page_of, DOCS / "page", browser)
            browser.close()


if __name__ == "__main__":
    cyclopts.run(main)
