"""Vocabularies with examples by the API: made, used, changed, saved, bounded, and refused."""

from __future__ import annotations

import asyncio
import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from running import Serving

from masqclip import Segmenter
from masqclip.clip.category import Category
from masqclip.clip.saved_vocabulary import SavedVocabulary, from_json, to_json
from masqclip.clip.vocabulary import Vocabulary
from masqclip.data.images import read_image
from masqclip.data.label_maps import png_bytes
from masqclip.data.rle import decode_rle

WORDS = "snake, tulip, rocket"
NOTHING = {"categories": [], "distractors": []}


def problem(answer: httpx.Response, status: int, *words: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    detail = answer.json()["detail"]
    assert "\n" not in detail
    for word in words:
        assert word in detail, detail


def mirrored(beach: bytes) -> bytes:
    return png_bytes(np.ascontiguousarray(read_image(beach).pixels[:, ::-1]))


async def upload(client: httpx.AsyncClient, picture: bytes) -> str:
    return str((await client.post("/v1/images", files={"image": picture})).json()["id"])


async def find_car(client: httpx.AsyncClient, image: str) -> dict[str, Any]:
    wish = {"vocabulary": f"car, {WORDS}", "task": "instance"}
    found = (await client.post(f"/v1/images/{image}/segment", json=wish)).json()["segments"]
    (car,) = (segment for segment in found if segment["name"] == "car")
    return dict(car)


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.count_nonzero(one & other) / np.count_nonzero(one | other))


def masks(answer: httpx.Response, name: str) -> list[np.ndarray]:
    assert answer.status_code == 200, answer.text
    return [
        decode_rle(segment["segmentation"])
        for segment in answer.json()["segments"]
        if segment["name"] == name
    ]


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
                {"name": "zivuko", "image": image, "point": point, "prompts": []},
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
            assert len(set(identifiers)) == 4 or identifiers[0] == identifiers[1]
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


def test_what_cannot_be_is_refused_in_a_line(
    serving: Serving, segmenter: Segmenter, beach: bytes
) -> None:
    height, width = read_image(beach).pixels.shape[:2]
    nobody = "v-" + "0" * 32

    async def run() -> None:
        async with serving(max_examples=2, max_names=4) as client:
            image = await upload(client, beach)
            car = await find_car(client, image)
            shown = {"name": "zivuko", "image": image}
            mask = {"segmentation": car["segmentation"]}

            async def refused(status: int, *words: str, **wish: Any) -> None:
                problem(await client.post("/v1/vocabularies", json=wish), status, *words)

            async def no_example(status: int, *words: str, **example: Any) -> None:
                await refused(status, *words, examples=[{**shown, **example}])

            await no_example(422, "box 10, 10, 10, 20 is none", box=[10, 10, 10, 20])
            await no_example(422, "no proposal fits", box=[0, 0, 3, 3])
            await no_example(422, "outside", point=[width, 0])
            await no_example(422, "is empty", segmentation=[[0, 0, 0, 0, 0, 0]])
            small = {"size": [2, 2], "counts": "04"}
            await no_example(422, "zivuko", f"{height} x {width}", segmentation=small)
            await no_example(422, "one of segmentation, box and point")
            await no_example(422, "one of segmentation, box and point", **mask, point=[1, 1])
            await no_example(404, "no such picture", **mask, image="0" * 32)
            await no_example(422, "base64", **mask, image="data:image/png;base64,!")
            await no_example(422, "name", **mask, name=" ")
            await no_example(422, "background", **mask, name="background")
            await refused(422, "give names")
            await refused(422, "give names", stuff="a", examples=[{**shown, **mask}])
            await refused(404, "no such vocabulary", vocabulary=nobody)
            await refused(404, "no such vocabulary", vocabulary="a", join=nobody)
            await refused(404, "no such vocabulary", vocabulary="a", distractors=nobody)
            await refused(422, "more than the limit of 4", vocabulary="a, b, c, d, e")
            fifth = {"vocabulary": "a, b, c, d", "examples": [{**shown, **mask}]}
            await refused(422, "5 names; this service takes 4", **fifth)
            many = [{**shown, **mask, "name": name} for name in "abc"]
            await refused(422, "3 examples; this service takes 2", examples=many)
            await refused(422, "at most 32", examples=many * 11)
            made = await client.post("/v1/vocabularies", json={"examples": many[:2]})
            path = f"/v1/vocabularies/{made.json()['id']}"
            problem(await client.patch(path, json={"add": many[2:]}), 422, "3 examples")
            problem(await client.patch(path, json={"add": [{**many[0], "distractor": True}]}), 422)
            assert (await client.get(path)).json() == made.json(), "what is refused changes nothing"
            for method in ("GET", "PATCH", "DELETE"):
                nowhere = f"/v1/vocabularies/{nobody}"
                problem(await client.request(method, nowhere, json={}), 404, "no such vocabulary")

            document = (await client.get(f"{path}/file")).json()
            other = from_json(document, source="it", limits=_limits())
            foreign = to_json(_with_probe(other, -1.0))
            segment = f"/v1/images/{image}/segment"
            for send in ("vocabulary", "join", "distractors"):
                wish = {"vocabulary": "x", "task": "instance", send: foreign}
                problem(await client.post(segment, json=wish), 422, "another CLIP")
            await refused(422, "another CLIP", vocabulary=foreign)
            cut = json.loads(json.dumps(document))
            cut["categories"][0]["examples"]["thumbnails"] = [""]
            await refused(422, "changed", vocabulary=cut)
            del cut["categories"][0]["examples"]["context"]
            await refused(422, "context", vocabulary=cut)
            await refused(422, "version", vocabulary={**document, "masqclip_vocabulary": 99})
            for spread in (1e300, 10**400):
                space = {**document["space"], "word_spread": spread}
                await refused(422, vocabulary={**document, "space": space})

    asyncio.run(run())


def _limits() -> Any:
    from masqclip.clip.name_limits import DEFAULT_LIMITS

    return DEFAULT_LIMITS


def _with_probe(saved: SavedVocabulary, sign: float) -> SavedVocabulary:
    """As of a CLIP that embeds the probe elsewhere."""

    def moved(category: Category) -> Category:
        assert category.examples is not None
        space = replace(category.examples.space, probe=category.examples.space.probe * sign)
        return replace(category, examples=replace(category.examples, space=space))

    return replace(saved, categories=tuple(map(moved, saved.categories)))


def test_no_file_of_this_machine_is_read(serving: Serving, beach: bytes, tmp_path: Path) -> None:
    """Not as names, not as distractors, not as what is joined."""
    Vocabulary.parse("secret").save(tmp_path / "a.json")
    path = str(tmp_path / "a.json")

    async def run() -> None:
        async with serving() as client:
            for wish in (
                {"vocabulary": path},
                {"vocabulary": "x", "join": path},
                {"vocabulary": "x", "distractors": path},
            ):
                answer = await client.post("/v1/vocabularies", json=wish)
                assert "secret" not in answer.text
                assert "a.json" in answer.text, "it is a name like any other"

    asyncio.run(run())
