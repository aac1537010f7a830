"""The page at any width, when a request fails, and with long names, long lists and cut-outs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from browsing import assert_accessible, download, pixels, wait_for
from PIL import Image
from playwright.sync_api import Page, Route
from running import EXAMPLES, Server

from masqclip import Segmenter
from masqclip.clip.vocabulary import load_builtin
from masqclip.data.rle import decode_rle
from masqclip.render.palette import vocabulary_colours
from masqclip.serve.app import create_app
from masqclip.serve.settings import ServeSettings

WIDTHS = (390, 768, 1440)
LONG = "extraordinarily" * 20


def open_beach(page: Page) -> None:
    page.get_by_role("button", name="Beach").click()
    wait_for(page, "rocket", "tulip", "car", "snake", "sand")


def overflow(page: Page) -> list[int]:
    """By how many pixels the page is wider than the window, at each width."""
    found = []
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 844})
        found.append(page.evaluate("document.documentElement.scrollWidth") - width)
    return found


def test_no_name_and_no_list_scrolls_the_page_sideways(page: Page, complaints: list[str]) -> None:
    """Nor those of an answer: of 300 letters, several of one name, 850 that found nothing."""

    def answer(route: Route) -> None:
        document = route.fetch().json()
        for segment in document["segments"][:2]:
            segment["name"] = LONG
        document["vocabulary"] = ["cat", *(f"{LONG} {i}" for i in range(849))]
        route.fulfill(json=document)

    open_beach(page)
    assert overflow(page) == [0, 0, 0]
    page.route("**/segment", answer)
    page.get_by_label("Add names").fill("cat,")
    wait_for(page, LONG)
    counts = page.locator(f'#legend [data-name="{LONG}"] .count').inner_text()
    assert counts.startswith("2, best "), "in words, as a product it would be another number"
    missing = page.locator("#missing").inner_text()
    assert missing.startswith("Not found: cat, ")
    assert missing.endswith("and 820 more")
    assert overflow(page) == [0, 0, 0]
    box = page.locator("#canvas").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert overflow(page) == [0, 0, 0]
    page.unroute("**/segment")
    page.locator("#vocabulary").select_option("ade20k-847")
    page.locator(f'#legend [data-name="{LONG}"]').wait_for(state="detached")
    assert overflow(page) == [0, 0, 0]
    page.get_by_role("button", name="Clear").click()
    page.get_by_label("Add names").fill(f"{LONG},")
    page.locator("#error").wait_for()
    assert overflow(page) == [0, 0, 0]
    assert_accessible(page)
    complaints.clear()  # browsers write every refusal to the console; this one was wanted


def test_a_failed_request_keeps_the_masks_and_can_be_tried_again(
    page: Page, complaints: list[str]
) -> None:
    open_beach(page)
    page.set_viewport_size({"width": 390, "height": 844})
    before = pixels(page)
    page.route("**/segment", lambda route: route.abort())
    page.get_by_label("Add names").fill("temple,")
    error = page.locator("#error")
    error.wait_for()
    assert "cannot be reached" in error.inner_text()
    box = error.bounding_box()
    assert box is not None
    assert 0 <= box["y"] < 844 - box["height"], "where the eye is, wherever that is"
    assert page.locator("#legend .entry").count() == 5
    assert page.locator("#status").inner_text() == "These are the masks of the last answer."
    assert (pixels(page) == before).mean() > 0.8
    assert_accessible(page)
    page.unroute("**/segment")
    page.get_by_role("button", name="Try again").click()
    page.locator("#missing").get_by_text("temple").wait_for()
    assert error.is_hidden()
    # What is refused for what it is would be refused again: there is nothing to try.
    page.get_by_label("Add names").fill("x " * 200 + ",")
    error.wait_for()
    assert page.locator("#retry").is_hidden()
    assert page.locator("#legend .entry").count() == 5
    page.get_by_role("button", name="Close").click()
    assert error.is_hidden()
    complaints.clear()  # browsers write every failure to the console; these were wanted


def test_a_built_in_list_keeps_its_synonyms(page: Page) -> None:
    open_beach(page)
    categories = load_builtin("ade20k-150").categories
    with page.expect_request(lambda request: request.url.endswith("/segment")) as asked:
        page.locator("#vocabulary").select_option("ade20k-150")
    assert json.loads(asked.value.post_data or "")["vocabulary"] == "ade20k-150"
    with page.expect_request(lambda request: request.url.endswith("/segment")) as asked:
        page.get_by_role("button", name="Remove wall").click()
    sent = json.loads(asked.value.post_data or "")["vocabulary"]
    expected = {
        f"{'thing' if category.thing else 'stuff'}: {category.name}": list(category.prompts)
        for category in categories[1:]
    }
    assert list(sent.items()) == list(expected.items())


def test_colours_are_those_of_the_command_line(page: Page) -> None:
    open_beach(page)
    colours = vocabulary_colours(["rocket", "tulip", "car", "snake", "sand"])
    for name, colour in colours.items():
        swatch = page.locator(f'#legend [data-name="{name}"] .swatch')
        shown = swatch.evaluate("element => getComputedStyle(element).backgroundColor")
        assert shown == "rgb({}, {}, {})".format(*colour)


def test_the_picture_is_zoomed_and_moved(page: Page) -> None:
    open_beach(page)
    whole = pixels(page)
    page.get_by_role("button", name="Zoom in").click()
    page.keyboard.press("+")
    large = pixels(page)
    assert (large != whole).mean() > 0.3
    box = page.locator("#canvas").bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x - 60, y, steps=4)
    page.mouse.up()
    assert page.locator('#legend .only[aria-pressed="true"]').count() == 0, "a drag is no click"
    page.mouse.move(0, 0)
    moved = pixels(page)
    # What was 60 pixels further right is there now.
    near = np.abs(moved[100:400, 100:400] - large[100:400, 160:460]).max(-1) < 40
    assert near.mean() > 0.8
    page.keyboard.press("ArrowRight")
    assert (pixels(page) != moved).mean() > 0.2
    page.get_by_role("button", name="Fit").click()
    page.mouse.move(0, 0)
    assert (pixels(page) == whole).mean() > 0.99
    page.mouse.click(x, box["y"] + 6)
    assert page.locator('#legend .only[aria-pressed="true"]').count() == 1


def test_a_cut_out_is_transparent_where_nothing_is_shown(page: Page, tmp_path: Path) -> None:
    with page.expect_response(lambda answer: answer.url.endswith("/segment")) as answered:
        open_beach(page)
    rocket = next(s for s in answered.value.json()["segments"] if s["name"] == "rocket")
    page.get_by_role("button", name="Only rocket").click()
    cut = Image.open(download(page, "Cut-out", tmp_path))
    assert cut.mode == "RGBA"
    mask = decode_rle(rocket["segmentation"])
    found = np.asarray(cut)
    np.testing.assert_array_equal(found[..., 3], mask * np.uint8(255))
    original = np.asarray(Image.open(EXAMPLES / "beach.png").convert("RGB"))
    np.testing.assert_array_equal(found[mask][:, :3], original[mask])


def test_the_api_is_there_to_read(page: Page, server: Server) -> None:
    page.goto(f"{server.url}/docs")
    page.locator("summary").get_by_text("POST /v1/segment", exact=True).click()
    assert page.locator("details[open]").get_by_text("names between commas").first.is_visible()
    assert "needs no token" in page.locator("main").inner_text()
    assert overflow(page) == [0, 0, 0]
    assert_accessible(page)


@pytest.mark.parametrize("token", ["", "secret"])
def test_the_document_says_how_a_token_is_sent(segmenter: Segmenter, token: str) -> None:
    document = create_app(segmenter, ServeSettings(token=token)).openapi()
    schemes = document["components"]["securitySchemes"]
    assert schemes["bearer"]["scheme"] == "bearer"
    assert (schemes["header"]["in"], schemes["header"]["name"]) == ("header", "Token")
    needed = [{name: []} for name in schemes] if token else None
    assert document.get("security") == needed
    assert document["paths"]["/healthz"]["get"].get("security") == ([] if token else None)
    assert "security" not in document["paths"]["/v1/segment"]["post"]
