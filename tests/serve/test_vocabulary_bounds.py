"""Vocabularies with examples by the API: what is refused, and how many are kept."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from running import Serving
from vocabulary_requests import find_car, problem, upload

from masqclip.clip.category import Category
from masqclip.clip.name_limits import DEFAULT_LIMITS
from masqclip.clip.saved_vocabulary import SavedVocabulary, from_json, to_json
from masqclip.clip.vocabulary import Vocabulary
from masqclip.data.images import read_image
from masqclip.serve.names_request import SavedDocument
from masqclip.serve.settings import ServeSettings
from masqclip.serve.vocabulary_store import VocabularyStore


def test_what_cannot_be_is_refused_in_a_line(serving: Serving, beach: bytes) -> None:
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
            other = from_json(document, source="it", limits=DEFAULT_LIMITS)
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
            for spread in (1e300, 10**400, "a", None, -1):
                space = {**document["space"], "word_spread": spread}
                await refused(422, "the vocabulary", vocabulary={**document, "space": space})

    asyncio.run(run())


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


def names(*given: str) -> SavedVocabulary:
    return Vocabulary.parse(list(given)).document()


def test_the_store_is_bounded_by_number_bytes_and_time() -> None:
    now = [0.0]
    store = VocabularyStore(
        ServeSettings(max_vocabularies=2, vocabulary_seconds=10), clock=lambda: now[0]
    )
    first, second = store.put(names("a")), store.put(names("b"))
    assert first != second
    assert store.get(first) == names("a")
    third = store.put(names("c"))  # the second was the least recently used
    assert [store.get(key) is None for key in (first, second, third)] == [False, True, False]
    now[0] = 9
    assert store.get(first) is not None
    now[0] = 11
    assert store.get(third) is None
    assert store.get(first) is not None
    assert store.put(names("d"), first) == first
    assert len(store) == 1
    assert store.remove(first)
    assert not store.remove(first)
    assert store.bytes == 0
    full = VocabularyStore(ServeSettings(vocabulary_bytes=3000))
    keys = [full.put(names("x" * 100, str(number))) for number in range(3)]
    assert full.bytes < 3000
    assert full.get(keys[0]) is None
    assert full.get(keys[2]) is not None
    alone = full.put(names("x" * 900))  # larger than all may be: kept until the next one comes
    assert (len(full), full.get(alone) is None) == (1, False)


def test_all_that_a_saved_vocabulary_says_comes_back(serving: Serving, beach: bytes) -> None:
    """Sent as a document, least scores, kinds and calibration count and are kept."""
    words = Vocabulary.parse("vehicle > rocket, car\nsnake\nstuff: sand")
    least = [0.999 if c.name == "snake" else None for c in words.categories]
    categories = [replace(c, min_score=s) for c, s in zip(words.categories, least, strict=True)]
    saved = replace(words, categories=tuple(categories), calibration=(0.5, 0.5, 0.0))
    document = to_json(saved.document())
    assert set(document) <= {*SavedDocument.model_fields}

    async def run() -> None:
        async with serving() as client:
            made = await client.post("/v1/vocabularies", json={"vocabulary": document})
            kept = await client.get(f"/v1/vocabularies/{made.json()['id']}/file")
            assert Vocabulary.parse(kept.text) == saved
            told = {row["name"]: row["min_score"] for row in made.json()["categories"]}
            assert told == {"rocket": None, "car": None, "snake": 0.999, "sand": None}
            change = {"remove_names": ["sand"]}
            less = await client.patch(f"/v1/vocabularies/{made.json()['id']}", json=change)
            smaller = await client.get(f"/v1/vocabularies/{less.json()['id']}/file")
            assert Vocabulary.parse(smaller.text) == replace(saved, categories=saved.categories[:3])
            made = await client.post("/v1/vocabularies", json={"vocabulary": document})
            image = (await client.post("/v1/images", files={"image": beach})).json()["id"]
            answers = [
                (await client.post(f"/v1/images/{image}/segment", json={"vocabulary": v})).json()
                for v in (document, made.json()["id"])
            ]
            for answer in answers:
                names = [segment["name"] for segment in answer["segments"]]
                assert sorted(names) == ["car", "rocket", "sand"]
                assert answer["kinds"] == {"rocket": ["vehicle"], "car": ["vehicle"]}
                scores = {segment["name"]: segment["score"] for segment in answer["segments"]}
                assert 0.8 < scores["car"] < 0.9  # 0.97 of the model's

    asyncio.run(run())
