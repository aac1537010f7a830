"""What a person does on the page, and what axe says of it."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Page

SERIOUS = ("serious", "critical")


def type_names(page: Page, *names: str) -> None:
    for name in names:
        page.get_by_label("Add names").fill(name)
        page.get_by_label("Add names").press("Enter")


def found(page: Page) -> list[str]:
    return page.locator("#legend .label").all_inner_texts()


def wait_for(page: Page, *names: str) -> None:
    for name in names:
        page.locator(f'#legend [data-name="{name}"]').wait_for()


def pixels(page: Page) -> np.ndarray:
    data = page.locator("#canvas").screenshot()
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)


def assert_accessible(page: Page) -> None:
    findings = Axe().run(page).response["violations"]
    serious = [
        f"{entry['id']}: {entry['help']}" for entry in findings if entry["impact"] in SERIOUS
    ]
    assert serious == []


def download(page: Page, button: str, folder: Path) -> Path:
    with page.expect_download() as started:
        page.get_by_role("button", name=button).click()
    path = folder / started.value.suggested_filename
    started.value.save_as(path)
    return path
