"""Examples on the page, in a real browser: segments, boxes, "not this", files, the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from browsing import assert_accessible, download, pixels, type_names, wait_for
from PIL import Image
from playwright.sync_api import Browser, Page, expect
from running import EXAMPLES, Server

from masqclip.cli.main import main
from masqclip.clip.category import Category
from masqclip.clip.vocabulary import Vocabulary

CAR = (315, 455)  # where it is in the picture of 512 x 512
BOX = ((250, 408), (382, 496))


@pytest.fixture
def mirrored(tmp_path: Path) -> Path:
    path = tmp_path / "mirrored.png"
    beach = Image.open(EXAMPLES / "beach.png").convert("RGB")
    beach.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(path)
    return path


def open_beach(page: Page, server: Server, *words: str) -> None:
    page.goto(f"{server.url}/#names={','.join(words)}&task=instance&example=beach")
    page.reload()
    page.locator("#legend .entry").first.wait_for()


def on_screen(page: Page, x: float, y: float) -> tuple[float, float]:
    box = page.locator("#canvas").bounding_box()
    assert box is not None
    return box["x"] + x * box["width"] / 512, box["y"] + y * box["height"] / 512


def click(page: Page, x: float, y: float) -> None:
    page.locator("#canvas").scroll_into_view_if_needed()
    page.mouse.click(*on_screen(page, x, y))


def draw_box(page: Page) -> None:
    page.get_by_role("button", name="Draw a box").click()
    page.locator("#box-layer").scroll_into_view_if_needed()
    page.mouse.move(*on_screen(page, *BOX[0]))
    page.mouse.down()
    page.mouse.move(*on_screen(page, *BOX[1]), steps=5)
    page.mouse.up()
    page.locator("#pick").wait_for()


def examples(page: Page) -> list[str]:
    return page.locator("#shown .word").all_inner_texts()


def asked(page: Page) -> Any:
    return page.expect_response(lambda answer: answer.url.endswith("/segment"))


def test_click_more_like_this_and_another_picture_has_it(
    page: Page, server: Server, mirrored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    open_beach(page, server, "truck", "snake", "tulip")
    click(page, *CAR)
    name = page.get_by_label("This is:")
    assert name.input_value() == page.locator("#legend .only[aria-pressed=true]").evaluate(
        "button => button.closest('li').dataset.name"
    ), "the segment's own name is offered"
    assert_accessible(page)
    name.fill("zivuko")
    page.get_by_role("button", name="More like this").click()
    wait_for(page, "zivuko")
    assert examples(page) == ["zivuko"]
    thumbnail = page.locator("#shown img")
    assert thumbnail.get_attribute("src", timeout=1000).startswith("data:image/jpeg")  # type: ignore[union-attr]
    assert thumbnail.evaluate("image => image.naturalWidth") > 0
    assert page.locator("#chips .word").all_inner_texts() == ["truck", "snake", "tulip"]
    assert_accessible(page)

    with asked(page):
        page.locator("#file").set_input_files(mirrored)
    wait_for(page, "zivuko")
    expect(page.locator('[data-name="zivuko"] .count')).not_to_contain_text(",")
    there = on_screen(page, 512 - CAR[0], CAR[1])
    page.mouse.move(*there)
    assert page.locator("#tip").inner_text().startswith("zivuko")

    # Saved, and the same masks from the command line.
    page.mouse.move(0, 0)
    coco = json.loads(download(page, "COCO JSON", tmp_path).read_text())
    saved = download(page, "Save", tmp_path)
    assert saved.name == "vocabulary.json"
    capsys.readouterr()
    command = ["segment", str(mirrored), "--vocabulary", str(saved), "--task", "instance"]
    assert main([*command, "--json", "--out", str(tmp_path / "out")]) == 0
    found = json.loads(capsys.readouterr().out)
    names = [category["name"] for category in coco["categories"]]
    shown = {
        (names[entry["category_id"] - 1], entry["segmentation"]["counts"])
        for entry in coco["annotations"]
    }
    assert "zivuko" in {name for name, _ in shown}
    assert shown == {
        (segment["name"], segment["segmentation"]["counts"]) for segment in found["segments"]
    }

    # Loaded in place of all there is; removed; and the words go with it.
    page.get_by_role("button", name="Clear").click()
    expect(page.locator("#shown .chip")).to_have_count(0)
    expect(page.locator("#chips .chip")).to_have_count(0)
    page.locator("#vocabulary-file").set_input_files(saved)
    expect(page.locator("#shown .chip")).to_have_count(4)
    wait_for(page, "zivuko")
    assert examples(page) == ["truck", "snake", "tulip", "zivuko"]
    page.get_by_role("button", name="Remove the example of zivuko").click()
    expect(page.locator("#shown .chip")).to_have_count(4)  # its name is a word as well
    page.get_by_role("button", name="Remove zivuko").click()
    page.locator('#legend [data-name="zivuko"]').wait_for(state="detached")
    assert examples(page) == ["truck", "snake", "tulip"]


def test_the_scores_of_a_calibrated_vocabulary_are_those_of_the_command_line(
    page: Page, server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each name from its own score on, whatever the page's slider says of all others."""
    least = {"rocket": 0.02, "snake": 0.99, "tulip": None}
    categories = tuple(Category(name, min_score=score) for name, score in least.items())
    saved = tmp_path / "calibrated.json"
    Vocabulary(categories, calibration=(0.4, 0.4, -2.0)).save(saved)
    command = ["segment", str(EXAMPLES / "beach.png"), "--vocabulary", str(saved)]
    assert main([*command, "-t", "instance", "--json", "--out", str(tmp_path / "out")]) == 0
    found = json.loads(capsys.readouterr().out)["segments"]
    assert min(segment["score"] for segment in found) < 0.3
    open_beach(page, server, "car")
    page.get_by_role("button", name="Clear").click()
    page.locator("#vocabulary-file").set_input_files(saved)
    wait_for(page, "rocket")
    entries = page.locator("#legend .entry").evaluate_all("all => all.map(e => e.dataset.name)")
    assert sorted(entries) == sorted({segment["name"] for segment in found})
    coco = json.loads(download(page, "COCO JSON", tmp_path).read_text())
    shown = sorted(entry["segmentation"]["counts"] for entry in coco["annotations"])
    assert shown == sorted(segment["segmentation"]["counts"] for segment in found)


def test_everything_is_listed_with_guesses_and_a_click_makes_one_a_name(
    page: Page, server: Server
) -> None:
    open_beach(page, server, "everything")
    wait_for(page, "rocket?", "car?", "snake?", "tulip?")
    expect(page.locator("#missing")).to_be_hidden()
    assert_accessible(page)
    click(page, *CAR)
    assert page.get_by_label("This is:").input_value() == "car"


def test_a_box_shows_its_mask_and_becomes_an_example(
    page: Page, server: Server, mirrored: Path
) -> None:
    open_beach(page, server, "snake", "tulip")
    before = pixels(page)
    draw_box(page)
    page.mouse.move(0, 0)
    assert (pixels(page) != before).any(-1).mean() > 0.02, "the mask that fits is shown"
    assert page.locator("#box-layer").is_hidden(), "and the picture can be moved again"
    name = page.get_by_label("This is:")
    expect(name).to_be_focused()
    page.get_by_role("button", name="More like this").click()
    expect(name).to_be_focused()  # it has no name yet
    with asked(page):
        name.fill("zivuko")
        name.press("Enter")
    wait_for(page, "zivuko")
    with asked(page):
        page.locator("#file").set_input_files(mirrored)
    wait_for(page, "zivuko")
    # Zooming and moving are as they were.
    page.get_by_role("button", name="Zoom in").click()
    whole = pixels(page)
    x, y = on_screen(page, 256, 256)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x - 60, y, steps=4)
    page.mouse.up()
    assert (pixels(page) != whole).mean() > 0.2


def test_what_fits_nothing_is_told_and_drawn_again(
    page: Page, server: Server, complaints: list[str]
) -> None:
    open_beach(page, server, "snake")
    page.get_by_role("button", name="Draw a box").click()
    page.mouse.move(*on_screen(page, 2, 2))
    page.mouse.down()
    page.mouse.move(*on_screen(page, 12, 14), steps=3)
    page.mouse.up()
    page.locator("#error").get_by_text("no proposal fits").wait_for()
    assert page.locator("#box-layer").is_visible()
    page.keyboard.press("Escape")
    assert page.locator("#box-layer").is_hidden()
    complaints.clear()  # browsers write every refusal to the console; this one was wanted


def test_not_this(page: Page, server: Server) -> None:
    """A wrong segment is gone after a click on it, and one more."""
    open_beach(page, server, "truck", "snake")
    car = page.locator('#legend [data-name="truck"]')
    car.wait_for()
    click(page, *CAR)
    assert page.get_by_label("This is:").input_value() == "truck"
    with asked(page):
        page.get_by_role("button", name="Not this").click()
    expect(page.locator("#shown .chip.not")).to_have_count(1)
    assert examples(page) == ["not truck"]
    car.wait_for(state="detached")
    assert_accessible(page)
    with asked(page):
        page.get_by_role("button", name="Remove the example of not truck").click()
    expect(page.locator("#shown .chip")).to_have_count(0)
    car.wait_for()


def test_the_service_may_forget_examples_and_gets_them_again(
    page: Page, server: Server, complaints: list[str]
) -> None:
    open_beach(page, server, "snake", "tulip")
    with page.expect_response(lambda answer: answer.url.endswith("/v1/vocabularies")) as made:
        draw_box(page)
        page.get_by_label("This is:").fill("zivuko")
        page.keyboard.press("Enter")
    wait_for(page, "zivuko")
    key = made.value.json()["id"]
    gone = page.request.delete(f"{server.url}/v1/vocabularies/{key}")
    assert gone.status == 204
    with page.expect_response(
        lambda answer: answer.url.endswith("/segment") and answer.status == 200
    ):
        type_names(page, "rocket")
    wait_for(page, "zivuko", "rocket")
    assert page.locator("#error").is_hidden()
    complaints.clear()  # browsers write the 404 to the console; it was wanted


def test_a_file_that_is_no_vocabulary_is_told(
    page: Page, server: Server, tmp_path: Path, complaints: list[str]
) -> None:
    open_beach(page, server, "snake")
    broken = tmp_path / "broken.json"
    broken.write_text('{"masqclip_vocabulary": 9, "categories": []}')
    page.locator("#vocabulary-file").set_input_files(broken)
    page.locator("#error").get_by_text("version").wait_for()
    assert page.locator("#chips .word").all_inner_texts() == ["snake"], "what was there stays"
    complaints.clear()  # browsers write every refusal to the console; this one was wanted


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 768, 1440])
def test_by_keyboard_at_any_width(
    browser: Browser, server: Server, width: int, scheme: Literal["light", "dark"]
) -> None:
    context = browser.new_context(
        viewport={"width": width, "height": 844}, color_scheme=scheme, has_touch=width < 1000
    )
    context.set_default_timeout(60_000)
    page = context.new_page()
    open_beach(page, server, "snake", "tulip", "truck")

    def fits() -> None:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert_accessible(page)

    page.locator("#busy").wait_for(state="hidden")  # an answer makes the legend anew
    page.locator("#legend .picking").first.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_label("This is:")).to_be_focused()
    fits()
    with asked(page):
        page.keyboard.type("a name that is longer than a chip of the list is wide, by far")
        page.keyboard.press("Enter")
    expect(page.locator("#shown .chip")).to_have_count(1)
    expect(page.locator("#box")).to_be_focused()
    page.keyboard.press("b")
    shape = page.locator("#box-shape")
    first = shape.bounding_box()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Shift+ArrowRight")
    second = shape.bounding_box()
    assert first is not None
    assert second is not None
    assert second["y"] > first["y"] + 1
    assert second["width"] > first["width"] + 1
    fits()
    page.keyboard.press("Escape")
    expect(page.locator("#box")).to_be_focused()
    page.locator("#busy").wait_for(state="hidden")
    page.locator("#shown .away").first.focus()
    with asked(page):
        page.keyboard.press("Enter")
    # It is a word as well, and a chip of its own until that goes, too.
    expect(page.locator("#shown img")).to_have_count(0)
    assert page.evaluate("document.activeElement.className") == "away"
    fits()
    context.close()


def test_a_finger_draws_and_taps(browser: Browser, server: Server) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True)
    context.set_default_timeout(60_000)
    page = context.new_page()
    open_beach(page, server, "snake")
    page.get_by_role("button", name="Draw a box").tap()
    layer = page.locator("#box-layer")
    assert layer.evaluate("element => getComputedStyle(element).touchAction") == "none"
    layer.scroll_into_view_if_needed()
    page.touchscreen.tap(*on_screen(page, *CAR))
    page.locator("#pick").wait_for()
    page.get_by_label("This is:").fill("zivuko")
    page.get_by_role("button", name="More like this").tap()
    wait_for(page, "zivuko")
    assert np.all(np.array(examples(page)) == "zivuko")
    context.close()
