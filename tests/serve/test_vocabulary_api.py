"""Vocabularies with examples by the API: made, used, changed and saved."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from running import Server, Serving
from vocabulary_requests import WORDS, find_car, iou, masks, mirrored, problem, upload

from masqclip import Segmenter
from masqclip.clip.vocabulary import Vocabulary
from masqclip.data.rle import decode_rle
from masqclip.errors import MasqclipError
from masqclip.serve.client import Client

NOTHING = {"categories": [], "distractors": []}


def test_a_segment_finds_its_like_and_is_saved_as_the_library_saves(
    serving: Serving, segmenter: Segmenter, beach: bytes, tmp_path: Path
) -> None:
    async def run() -> None:
        async with serving() as client:
            image, other = await upload(client, beach), await upload(client, mirrored(beach))
            car = await find_car(client, image)
            shown = {"name": "zivuko", "image": image, "segmentation": car["segmentation"]}
            made = await client.post(
                "/v1/vocabularies", json={"vocabulary": WORDS, "examples": [shown]}
            )
            assert made.status_code == 201, made.text
            kept = made.json()
            key = kept["id"]
            names = [category["name"] for category in kept["categories"]]
            assert names == ["snake", "tulip", "rocket", "zivuko"]
            (example,) = kept["categories"][3]["examples"]
            assert example["thumbnail"].startswith("data:image/jpeg;base64,")
            assert (await client.get(f"/v1/vocabularies/{key}")).json() == kept

            wish = {"vocabulary": key, "task": "instance", "min_score": 0.5}
            answer = await client.post(f"/v1/images/{other}/segment", json=wish)
            (again,) = masks(answer, "zivuko")
            assert iou(again, decode_rle(car["segmentation"])[:, ::-1]) > 0.8

            # The very file that the library writes, and the masks that it finds with it.
            file = await client.get(f"/v1/vocabularies/{key}/file")
            (tmp_path / "served.json").write_bytes(file.content)
            words = Vocabulary.parse(WORDS).joined(
                segmenter.example("zivuko", beach, decode_rle(car["segmentation"]))
            )
            words.save(tmp_path / "own.json")
            assert file.content == (tmp_path / "own.json").read_bytes()
            expected = segmenter(mirrored(beach), tmp_path / "served.json", "instance")
            wish = {"vocabulary": file.json(), "task": "instance"}
            sent = await client.post(f"/v1/images/{other}/segment", json=wish)
            names = [segment["name"] for segment in sent.json()["segments"]]
            assert names == [segment.name for segment in expected.segments]
            assert "zivuko" in names
            for segment, own in zip(sent.json()["segments"], expected.segments, strict=True):
                assert np.array_equal(decode_rle(segment["segmentation"]), own.mask)

            # Three ways to say the same: by its identifier, as a document, and in a form.
            by_id = await client.post(
                f"/v1/images/{other}/segment", json={"vocabulary": key, "task": "instance"}
            )
            form = {"vocabulary": key, "task": "instance"}
            picture = {"image": mirrored(beach)}
            once = await client.post("/v1/segment", files=picture, data=form)
            assert by_id.content == sent.content == once.content
            taken = await client.post("/v1/vocabularies", json={"vocabulary": file.json()})
            assert taken.json()["categories"] == kept["categories"]
            assert (
                await client.get(f"/v1/vocabularies/{taken.json()['id']}/file")
            ).content == file.content

            assert (await client.delete(f"/v1/vocabularies/{key}")).status_code == 204
            problem(await client.get(f"/v1/vocabularies/{key}"), 404, "no such vocabulary")

    asyncio.run(run())


def test_examples_are_added_by_box_point_and_polygon_and_removed(
    serving: Serving, beach: bytes
) -> None:
    async def run() -> None:
        async with serving() as client:
            image = await upload(client, beach)
            car = await find_car(client, image)
            mask = decode_rle(car["segmentation"])
            left, top, wide, high = car["bbox"]
            box = [left, top, left + wide, top + high]
            rows, columns = np.nonzero(mask)
            point = [float(np.median(columns)), float(np.median(rows))]
            for place in ({"box": box}, {"point": point}):
                fitting = await client.post(f"/v1/images/{image}/mask", json=place)
                assert fitting.status_code == 200, fitting.text
                found = fitting.json()
                assert iou(decode_rle(found["segmentation"]), mask) > 0.8
                assert found["area"] == decode_rle(found["segmentation"]).sum()
            first = {"name": "zivuko", "image": image, "box": box, "prompts": []}
            made = await client.post("/v1/vocabularies", json={"examples": [first]})
            key = made.json()["id"]
            assert made.json()["categories"][0]["prompts"] == []
            before = (await client.get(f"/v1/vocabularies/{key}/file")).content
            corners = [*box[:2], box[2], box[1], *box[2:], box[0], box[3]]
            data = "data:image/png;base64," + base64.b64encode(beach).decode()
            more = [
                {"name": "zivuko", "image": image, "point": [112, 378], "prompts": []},
                {"name": "zivuko", "image": image, "box": box, "prompts": []},  # is there already
                {"name": "block", "image": data, "segmentation": [corners], "stuff": True},
                {"name": "not this", "image": image, "box": box, "distractor": True},
            ]
            path = f"/v1/vocabularies/{key}"
            grown = (await client.patch(path, json={"add": more})).json()
            told = [
                (row["name"], row["prompts"], row["thing"], len(row["examples"]))
                for row in grown["categories"] + grown["distractors"]
            ]
            assert told == [
                ("zivuko", [], True, 2), ("block", ["block"], False, 1), ("not this", [], True, 1),
            ]  # fmt: skip
            identifiers = [
                example["id"]
                for row in grown["categories"] + grown["distractors"]
                for example in row["examples"]
            ]
            assert len(set(identifiers)) == 4
            # What is words as well stays without its examples; what is not goes with the last.
            gone = await client.patch(path, json={"remove": identifiers[1:]})
            assert [(row["name"], len(row["examples"])) for row in gone.json()["categories"]] == [
                ("zivuko", 1),
                ("block", 0),
            ]
            assert gone.json()["distractors"] == []
            gone = await client.patch(path, json={"remove_names": ["block"]})
            left_over = json.loads((await client.get(f"{path}/file")).content)
            first_of = json.loads(before)["categories"][0]["examples"]
            shown = left_over["categories"][0]["examples"]
            assert shown["embeddings"] == first_of["embeddings"]
            assert shown["thumbnails"] == first_of["thumbnails"]
            problem(await client.patch(path, json={"remove": ["1" * 16]}), 422, "no example")
            problem(await client.patch(path, json={"remove_names": ["a"]}), 422, "no name 'a'")
            # The last one may go: the vocabulary is empty until something is added.
            empty = await client.patch(path, json={"remove": identifiers[:1]})
            assert {**empty.json(), "id": ""} == {"id": "", **NOTHING}
            wish = {"vocabulary": key}
            refused = await client.post(f"/v1/images/{image}/segment", json=wish)
            problem(refused, 422, "the vocabulary is empty")

    asyncio.run(run())


def test_what_something_is_not_competes(serving: Serving, beach: bytes) -> None:
    """A broad name leaves what it was shown not to be, wherever the example stands."""

    async def run() -> None:
        async with serving() as client:
            image = await upload(client, beach)
            car = await find_car(client, image)
            mask = decode_rle(car["segmentation"])
            shown = {"name": "not this", "image": image, "segmentation": car["segmentation"]}

            async def on_the_car(**wish: Any) -> float:
                wish = {"vocabulary": "vehicle, snake", "task": "instance", "min_score": 0, **wish}
                answer = await client.post(f"/v1/images/{image}/segment", json=wish)
                assert answer.status_code == 200, answer.text
                return max(
                    (
                        segment["score"]
                        for segment in answer.json()["segments"]
                        if segment["name"] == "vehicle"
                        and iou(decode_rle(segment["segmentation"]), mask) > 0.5
                    ),
                    default=0.0,
                )

            before = await on_the_car()
            negative = await client.post(
                "/v1/vocabularies", json={"examples": [{**shown, "distractor": True}]}
            )
            positive = await client.post("/v1/vocabularies", json={"examples": [shown]})
            joined = await on_the_car(join=negative.json()["id"])
            assert before > 4 * joined
            assert await on_the_car(distractors=positive.json()["id"]) < before / 4
            # Kept again from its file, though it names nothing to look for.
            path = f"/v1/vocabularies/{negative.json()['id']}"
            file = (await client.get(f"{path}/file")).json()
            again = await client.post("/v1/vocabularies", json={"vocabulary": file})
            assert again.status_code == 201, again.text
            assert again.json()["distractors"] == negative.json()["distractors"]
            # Names and what they are not, as one file.
            whole = await client.post(
                "/v1/vocabularies",
                json={"vocabulary": "vehicle, snake", "join": negative.json()["id"]},
            )
            assert await on_the_car(vocabulary=whole.json()["id"]) == joined
            # Its document does what its identifier does, and both may be given as what competes.
            assert await on_the_car(join=file) == joined
            for rivals in (file, negative.json()["id"]):
                assert await on_the_car(distractors=rivals) == joined

    asyncio.run(run())


def test_two_changes_at_a_time_are_both_made(serving: Serving, beach: bytes) -> None:
    async def run() -> None:
        async with serving() as client:
            image = await upload(client, beach)
            car = await find_car(client, image)
            made = await client.post("/v1/vocabularies", json={"vocabulary": "snake"})
            path = f"/v1/vocabularies/{made.json()['id']}"
            shown = {"image": image, "segmentation": car["segmentation"]}
            changes = [{"add": [{**shown, "name": name}]} for name in ("one", "two", "three")]
            await asyncio.gather(*(client.patch(path, json=change) for change in changes))
            names = {row["name"] for row in (await client.get(path)).json()["categories"]}
            assert names == {"snake", "one", "two", "three"}

    asyncio.run(run())


def test_the_client_makes_and_uses_vocabularies(
    server: Server, beach: bytes, tmp_path: Path
) -> None:
    with Client(server.url) as client:
        picture = client.upload(beach)
        found = client.segment(picture, f"car, {WORDS}", "instance")
        (car,) = (s for s in found["segments"] if s["name"] == "car")
        words = client.make_vocabulary(WORDS)
        shown = client.add_example(words, "zivuko", picture, segment=car, prompts=[])
        assert shown["categories"][-1]["name"] == "zivuko"
        again = client.segment(mirrored(beach), words, "instance", min_score=0.5)
        assert "zivuko" in [segment["name"] for segment in again["segments"]]
        client.save_vocabulary(words, tmp_path / "zivuko.json")
        loaded = client.make_vocabulary(tmp_path / "zivuko.json")
        expected = client.vocabulary(words)["categories"]
        assert client.vocabulary(loaded)["categories"] == expected
        (example,) = expected[-1]["examples"]
        assert len(client.remove_example(loaded, example["id"])["categories"]) == 3
        client.forget_vocabulary(loaded)
        with pytest.raises(MasqclipError, match="no such vocabulary"):
            client.vocabulary(loaded)
