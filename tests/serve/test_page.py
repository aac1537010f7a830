"""The page in a real browser, against the real service: what a person does, and what axe says.

Needs Chromium: the system's (apt-get install chromium), or Playwright's own (playwright install
chromium). `./check` sees to it.
"""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import numpy as np
import pytest
from browsing import assert_accessible, download, found, pixels, type_names, wait_for
from PIL import Image
from playwright.sync_api import Browser, Page
from running import EXAMPLES, Server

from masqclip.data.label_maps import rgb_to_ids
from masqclip.data.rle import decode_rle


def test_from_an_example_to_files(page: Page, server: Server, tmp_path: Path) -> None:
    assert_accessible(page)
    assert "no photographs" in page.locator("#model").inner_text()
    page.get_by_role("button", name="Beach").click()
    wait_for(page, "rocket", "tulip", "car", "snake", "sand")  # an example shows its masks at once
    page.get_by_role("button", name="Clear").click()
    type_names(page, "rocket", "tulip")
    page.locator('#legend [data-name="sand"]').wait_for(state="detached")
    wait_for(page, "rocket", "tulip")
    assert sorted(found(page)) == ["rocket", "tulip"]
    assert_accessible(page)

    # Another word, another result, without another upload.
    uploads: list[str] = []
    page.on(
        "request", lambda request: uploads.append(request.url) if request.method == "POST" else None
    )
    page.get_by_role("button", name="Change tulip").click()
    type_names(page, "snake")
    wait_for(page, "snake")
    assert "tulip" not in found(page)
    type_names(page, "stuff: sand")
    wait_for(page, "sand")
    assert [url for url in uploads if url.endswith("/v1/images")] == []

    # Hiding and showing alone need no request, and change the picture.
    uploads.clear()
    whole = pixels(page)
    rocket = page.locator('#legend [data-name="rocket"]')
    rocket.locator(".show").click()
    page.mouse.move(0, 0)
    hidden = pixels(page)
    assert (hidden != whole).any()
    assert rocket.locator(".show").get_attribute("aria-pressed") == "false"
    rocket.locator(".show").click()
    page.get_by_role("button", name="Only sand").click()
    assert rocket.locator(".show").get_attribute("aria-pressed") == "false"
    page.get_by_role("button", name="Only sand").click()
    page.get_by_label("Opacity").fill("0.2")
    assert uploads == []
    # What scores less competes for pixels: another least score is another answer.
    with page.expect_response(lambda answer: answer.url.endswith("/segment")):
        page.get_by_label("Least score").fill("0.25")
    assert "opacity=0.2" in page.url
    assert "sand" in page.url

    # What lies under the pointer is told: the sand has no shape at its upper edge.
    box = page.locator("#canvas").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 6)
    assert page.locator("#tip").inner_text().startswith("sand")

    # Files: what is shown, as the service answers it.
    picture = (EXAMPLES / "beach.png").read_bytes()
    form = {"vocabulary": "rocket, snake, stuff: sand", "min_score": "0.25"}
    answer = httpx.post(
        f"{server.url}/v1/segment", files={"image": picture}, data=form, timeout=60
    ).json()
    shown = answer["segments"]
    coco = json.loads(download(page, "COCO JSON", tmp_path).read_text())
    assert [name["name"] for name in coco["categories"]] == ["rocket", "snake", "sand"]
    by_id = {entry["id"]: entry for entry in coco["annotations"]}
    assert set(by_id) == {segment["id"] for segment in shown}
    ids = rgb_to_ids(
        np.asarray(Image.open(download(page, "Panoptic PNG", tmp_path)).convert("RGB"))
    )
    for segment in shown:
        assert by_id[segment["id"]]["segmentation"] == segment["segmentation"]
        assert by_id[segment["id"]]["category_id"] == segment["class_id"] + 1
        mask = decode_rle(segment["segmentation"])
        np.testing.assert_array_equal(ids == segment["id"], mask)
    overlay = Image.open(download(page, "Overlay", tmp_path)).convert("RGB")
    assert overlay.size == (512, 512)
    original = np.asarray(Image.open(EXAMPLES / "beach.png").convert("RGB"))
    assert (np.asarray(overlay) != original).any()


def test_names_are_typed_in_many_ways_and_kept_in_the_address(page: Page) -> None:
    page.get_by_role("button", name="Beach").click()
    page.get_by_role("button", name="Clear").click()
    type_names(
        page, "rocket,,tulip,", "car . snake .", "St. Bernard", 'a\uff0c"traffic light, red", b'
    )
    type_names(page, 'stuff: "sand, wet"', "TCP/IP", "Rocket")
    names = [
        "rocket", "tulip", "car", "snake", "St. Bernard", "a", "traffic light, red", "b",
        "sand, wet", "TCP/IP",
    ]  # fmt: skip
    wait_for(page, "rocket")
    assert page.locator("#chips .word").all_inner_texts() == names
    page.reload()
    wait_for(page, "rocket")
    assert page.locator("#chips .word").all_inner_texts() == names
    assert page.locator("#chips .kind").all_inner_texts().count("stuff") == 1
    page.get_by_role("button", name="Change traffic light, red").click()
    page.get_by_label("Add names").press("Enter")
    assert sorted(page.locator("#chips .word").all_inner_texts()) == sorted(names)


def test_settings_come_from_the_address_and_a_mistake_is_told(
    page: Page, server: Server, complaints: list[str]
) -> None:
    page.goto(f"{server.url}/#names=rocket,stuff:sand&task=semantic&score=0.2&example=beach")
    page.reload()
    wait_for(page, "sand")
    assert page.get_by_label("Semantic").is_checked()
    assert page.get_by_role("button", name="sand is stuff").get_attribute("aria-pressed") == "true"
    name = page.get_by_label("Add names")
    name.fill("x " * 200)
    assert complaints == []
    name.press("Enter")
    page.locator("#error").wait_for()
    assert "tokens" in page.locator("#error").inner_text()
    complaints.clear()  # browsers write every refusal to the console; this one was wanted


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_by_keyboard_alone(browser: Browser, server: Server, scheme: str) -> None:
    context = browser.new_context(
        viewport={"width": 390, "height": 844}, color_scheme=scheme, has_touch=True
    )  # type: ignore[arg-type]
    context.set_default_timeout(60_000)
    page = context.new_page()
    page.goto(server.url)
    page.get_by_role("button", name="Beach").focus()
    page.keyboard.press("Enter")
    page.locator("#work").wait_for()
    page.wait_for_function("document.activeElement.id === 'name'")
    wait_for(page, "rocket", "sand")
    page.keyboard.type("tulip,temple,")  # one that is there, and one that is not
    assert page.locator("#chips .word").all_inner_texts()[-2:] == ["sand", "temple"]
    page.keyboard.press("Backspace")
    page.keyboard.press("Backspace")
    page.locator('#legend [data-name="sand"]').wait_for(state="detached")
    page.locator("#legend .show").first.focus()
    page.keyboard.press("Space")
    assert page.evaluate("document.activeElement.getAttribute('aria-pressed')") == "false"
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= 390
    assert_accessible(page)
    context.close()


def test_what_the_model_does_not_know_is_said(page: Page, server: Server) -> None:
    """And what was taken for a region, which a click makes a thing."""
    page.goto(f"{server.url}/#names=rocket,sand,temple&example=beach")
    page.reload()
    wait_for(page, "rocket", "sand")
    notes = page.locator("#notes li")
    assert notes.all_inner_texts() == [
        "taken as regions: sand ('thing: NAME', or --things, counts them)",
        "masqclip-mini has never read: temple; it knows drawn things only. "
        "For photographs: --model photo",
    ]
    sand = page.get_by_role("button", name="sand is stuff")
    assert sand.get_attribute("aria-pressed") == "true"
    assert sand.inner_text() == "stuff"
    with page.expect_request(lambda request: request.url.endswith("/segment")) as asked:
        sand.click()
    assert json.loads(asked.value.post_data or "")["vocabulary"] == [
        "rocket", "thing: sand", "temple"
    ]  # fmt: skip
    notes.nth(1).wait_for(state="detached")
    assert page.get_by_role("button", name="sand is stuff").inner_text() == "thing"
    assert_accessible(page)
    page.get_by_role("button", name="Remove temple").click()
    page.locator("#notes").wait_for(state="hidden")
