"""The page shows what the command line answers, keeps what was chosen, turns pictures upright."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsing import download, type_names, wait_for
from PIL import Image
from playwright.sync_api import Browser, Page, Route
from running import EXAMPLES, Server, start_server

from masqclip import Segmenter
from masqclip.clip.vocabulary import load_builtin
from masqclip.data.images import read_image
from masqclip.data.rle import encode_rle


def asked(page: Page) -> Any:
    return page.expect_response(lambda answer: answer.url.endswith("/segment"))


def settled(page: Page) -> None:
    page.get_by_text(re.compile(r"in \d+ ms")).wait_for()
    page.locator("#busy").wait_for(state="hidden")


@pytest.mark.parametrize(
    ("picture", "listed", "taken_out", "task"),
    [
        ("avenue.png", "ade20k-847", "", "semantic"),
        ("avenue.png", "ade20k-847", "wall", "semantic"),
        ("avenue.png", "ade20k-847", "wall", "panoptic"),
        ("avenue.png", "ade20k-847", "wall", "instance"),
        ("cat-and-parakeet.jpg", "stickers", "", "panoptic"),  # of many low scores
    ],
)
def test_a_list_gives_the_command_lines_answer(
    page: Page, segmenter: Segmenter, picture: str, listed: str, taken_out: str, task: Any,
    tmp_path: Path,
) -> None:  # fmt: skip
    words = load_builtin(listed)
    if taken_out:
        words = words.subset([name for name in words.names if name != taken_out])
    expected = segmenter(EXAMPLES / picture, words, task)
    assert len(expected) > 0
    page.goto(f"{page.url}#list={listed}&without={taken_out}&task={task}")
    page.locator("#file").set_input_files(EXAMPLES / picture)
    page.locator("#legend .entry").first.wait_for()
    settled(page)
    coco = json.loads(download(page, "COCO JSON", tmp_path).read_text())
    names = [category["name"] for category in coco["categories"]]
    assert names == list(words.names)
    shown = {
        (names[entry["category_id"] - 1], entry["segmentation"]["counts"])
        for entry in coco["annotations"]
    }
    counts = [encode_rle(segment.mask)["counts"] for segment in expected.segments]
    assert shown == {
        (segment.name, code) for segment, code in zip(expected.segments, counts, strict=True)
    }
    scores = sorted(entry["score"] for entry in coco["annotations"])
    expected_scores = sorted(segment.score for segment in expected.segments)
    np.testing.assert_allclose(scores, expected_scores, atol=2e-3)


def test_an_edited_list_is_the_same_after_a_reload(page: Page) -> None:
    page.goto(f"{page.url}#list=ade20k-150&example=beach")
    wait_for(page, "sand")
    page.get_by_role("button", name="Remove wall").click()
    page.get_by_role("button", name="earth, ground is stuff").click()
    with asked(page) as answered:
        type_names(page, "rocket, stuff: wall of sand, wall")
    sent = json.loads(answered.value.request.post_data or "")["vocabulary"]
    categories = load_builtin("ade20k-150").categories
    kinds = {
        c.name: "thing" if c.thing or c.name == "earth, ground" else "stuff" for c in categories
    }
    expected = {f"{kinds[c.name]}: {c.name}": list(c.prompts) for c in categories[1:]}
    expected |= {name: [name.removeprefix("stuff: ")] for name in ("rocket", "stuff: wall of sand")}
    expected["wall"] = ["wall"]
    assert list(sent.items()) == list(expected.items())
    assert len(page.url) < 400, "the list's names are not in the address"
    chips = page.locator("#chips .word").all_inner_texts()
    with asked(page) as answered:
        page.reload()
    again = json.loads(answered.value.request.post_data or "")["vocabulary"]
    assert list(again.items()) == list(sent.items())
    assert page.locator("#chips .word").all_inner_texts() == chips
    assert "list=ade20k-150&without=wall" in page.url


def test_another_address_in_the_same_window_is_taken_over(page: Page, server: Server) -> None:
    page.goto(f"{server.url}/#names=rocket&example=beach&score=abc&opacity=9&task=all")
    wait_for(page, "rocket")
    assert page.url.endswith("#names=rocket&example=beach"), "what cannot be is as by default"
    page.goto(f"{server.url}/#names=tulip,stuff:sand&task=semantic&score=0.5&example=beach")
    wait_for(page, "tulip", "sand")
    assert page.get_by_role("radio", name="Semantic").is_checked()
    assert page.locator("#score-value").inner_text() == "0.50"
    assert page.locator("#chips .word").all_inner_texts() == ["tulip", "sand"]
    page.go_back()
    wait_for(page, "rocket")
    assert page.get_by_role("radio", name="Panoptic").is_checked()
    page.goto(f"{server.url}/#names=tulip&list=nobodys-list")
    wait_for(page, "tulip")
    assert 'no list "nobodys-list"' in page.locator("#error").inner_text()


def test_names_keep_their_kind(page: Page) -> None:
    """After a comma and a blank, and when they are changed."""
    page.get_by_role("button", name="Beach").click()
    page.get_by_role("button", name="Clear").click()
    with asked(page) as answered:
        type_names(page, "rocket, stuff: tulip,  thing:  sand")
    sent = ["rocket", "stuff: tulip", "thing: sand"]
    assert json.loads(answered.value.request.post_data or "")["vocabulary"] == sent
    page.get_by_role("button", name="Change tulip").click()
    assert page.get_by_label("Add names").input_value() == "stuff: tulip"


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_lie_as_the_service_sees_them(
    page: Page, orientation: int, tmp_path: Path
) -> None:
    """WebP, too, which this browser does not turn by itself."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = tmp_path / "turned.webp"
    beach = Image.open(EXAMPLES / "beach.png").convert("RGB").resize((96, 64))
    beach.save(picture, lossless=True, exif=exif)
    page.goto(f"{page.url}#names=sand&opacity=0")
    page.locator("#file").set_input_files(picture)
    settled(page)
    shown = np.asarray(Image.open(download(page, "Overlay", tmp_path)).convert("RGB"))
    np.testing.assert_array_equal(shown, read_image(picture).pixels)


def test_masks_of_a_large_picture_take_little_room(page: Page, tmp_path: Path) -> None:
    """A thousand of them, each of 24 megapixels, and what lies under the pointer is found."""
    width, height = 6000, 4000
    Image.new("RGB", (width, height), "white").save(tmp_path / "large.png")
    mask = np.zeros((height, width), bool)
    mask[1000:3000, 1500:4500] = True
    code = encode_rle(mask)

    def answer(route: Route) -> None:
        box = [1500, 1000, 3000, 2000]
        segment = {
            "name": "cat", "class_id": 0, "score": 0.9, "thing": True, "area": 6_000_000,
            "bbox": box, "segmentation": code, "colour": "#ff0000",
        }  # fmt: skip
        segments = [{**segment, "id": number} for number in range(1, 1001)]
        route.fulfill(
            json={
                "task": "instance", "height": height, "width": width, "vocabulary": ["cat"],
                "notes": [], "segments": segments,
            }
        )  # fmt: skip

    page.route("**/v1/images", lambda route: route.fulfill(status=201, json={"id": "1" * 32}))
    page.route("**/segment", answer)
    type_names(page, "cat")
    page.locator("#file").set_input_files(tmp_path / "large.png")
    wait_for(page, "cat")
    assert page.locator('#legend [data-name="cat"] .count').inner_text() == "1000, best 0.90"
    box = page.locator("#canvas").bounding_box()
    assert box is not None
    for x, y, inside in (
        (0.24, 0.5, False),
        (0.26, 0.5, True),
        (0.74, 0.74, True),
        (0.5, 0.76, False),
    ):
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
        assert page.locator("#tip").is_visible() == inside


def test_an_example_that_cannot_be_fetched_is_told_and_tried_again(
    page: Page, complaints: list[str]
) -> None:
    page.route("**/static/examples/beach.png", lambda route: route.abort())
    page.get_by_role("button", name="Beach").click()
    page.locator("#error").wait_for()
    assert "cannot be reached" in page.locator("#error").inner_text()
    page.unroute("**/static/examples/beach.png")
    page.get_by_role("button", name="Try again").click()
    wait_for(page, "rocket")
    complaints.clear()  # browsers write every failure to the console; this one was wanted


def test_a_token_is_asked_for_until_it_is_right(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MASQCLIP_TOKEN", "secret")
    started = start_server(tmp_path / "log.txt")
    context = browser.new_context()
    context.set_default_timeout(60_000)
    page = context.new_page()
    page.goto(f"{started.url}/#names=rocket&example=beach")
    page.locator("#token-form").wait_for()
    for wrong in ("wrong", "\u043a\u043b\u044e\u0447"):  # no header has such letters
        page.locator("#token").fill(wrong)
        with page.expect_response("**/v1/models"):
            page.get_by_role("button", name="Use it").click()
        page.get_by_text("That is not the token of this service.").wait_for()
        assert page.locator("#error").is_hidden()
    page.locator("#token").fill("secret")
    page.get_by_role("button", name="Use it").click()
    wait_for(page, "rocket")
    assert page.locator("#token-form").is_hidden()
    context.close()
    started.process.terminate()
    assert started.process.wait(60) == 0


def test_an_answer_takes_nobodys_place_away(page: Page) -> None:
    """Whoever is on a name's button by keyboard, or about to click it, is there afterwards, too."""
    page.goto(f"{page.url}#names=sand,rocket&task=panoptic&example=beach")
    held = page.locator("#chips .kind").first.element_handle()
    assert held is not None
    wait_for(page, "sand", "rocket")
    assert held.inner_text() == "stuff", "as the answer has it"
    held.focus()
    with asked(page):
        page.keyboard.press("Enter")
    settled(page)
    page.get_by_text("sand", exact=True).first.wait_for()
    assert held.inner_text() == "thing"
    assert held.evaluate("button => button === document.activeElement")
