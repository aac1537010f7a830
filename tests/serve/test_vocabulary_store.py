"""Vocabularies that the service keeps, bounded; and the Python client that makes and uses them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from masqclip.clip.saved_vocabulary import SavedVocabulary
from masqclip.clip.vocabulary import Vocabulary
from masqclip.data.images import read_image
from masqclip.data.label_maps import png_bytes
from masqclip.serve.client import Client
from masqclip.serve.settings import ServeSettings
from masqclip.serve.vocabulary_store import VocabularyStore

WORDS = "snake, tulip, rocket"


def mirrored(beach: bytes) -> bytes:
    return png_bytes(np.ascontiguousarray(read_image(beach).pixels[:, ::-1]))


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


def test_the_client_makes_and_uses_vocabularies(server: Any, beach: bytes, tmp_path: Path) -> None:
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
        with pytest.raises(Exception, match="no such vocabulary"):
            client.vocabulary(loaded)
