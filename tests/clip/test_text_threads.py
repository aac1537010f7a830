"""Threads that share a text encoder get the words that they asked for."""

from __future__ import annotations

import copy
import pickle
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from transformers import CLIPConfig, CLIPModel

from masqclip.clip.text import TextEncoder
from masqclip.clip.text_cache import EmbeddingCache
from masqclip.clip.vocabulary import Vocabulary
from masqclip.towers.tokenizer import load_tokenizer

WORDS = [f"{a}{b}" for a in ("cat", "dog", "car", "sky", "sun") for b in ("s", " toy", " one")]
VOCABULARIES = [
    Vocabulary.parse([WORDS[i], WORDS[(i + k) % len(WORDS)], f"other {i} {k}"])
    for i in range(len(WORDS))
    for k in range(1, 4)
]


@pytest.fixture
def _impatient() -> Iterator[None]:
    """Threads take turns so often that what can go wrong between two steps does."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@pytest.fixture
def encoder() -> TextEncoder:
    torch.manual_seed(0)
    tower = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    tower |= {"num_attention_heads": 1}
    vision = tower | {"image_size": 32, "patch_size": 16}
    config = CLIPConfig(text_config=tower, vision_config=vision, projection_dim=8)
    encoder = TextEncoder(CLIPModel(config).eval(), load_tokenizer())
    encoder._cache = EmbeddingCache(8, max_strings=12)  # overflows with every other vocabulary
    return encoder


@pytest.mark.usefixtures("_impatient")
def test_every_thread_gets_its_own_words(encoder: TextEncoder) -> None:
    """Nothing is confused while eight threads ask, nor afterwards."""
    wanted = {v: encoder.embed_vocabulary(v) for v in VOCABULARIES}

    def ask(start: int) -> int:
        mine = VOCABULARIES[start:] + VOCABULARIES[:start]
        return sum(
            not torch.allclose(encoder.embed_vocabulary(v), wanted[v], atol=1e-5) for v in mine
        )

    starts = [5 * i for i in range(8)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, starts)) == [0] * 8
    assert ask(0) == 0


@pytest.mark.usefixtures("_impatient")
def test_a_table_that_others_add_to_keeps_its_rows() -> None:
    cache = EmbeddingCache(1, max_strings=50)
    done = threading.Event()

    def add() -> None:
        for i in range(600):
            cache.add([str(i)], np.array([[float(i)]], np.float32))

    def read() -> int:
        wrong = 0
        while not done.is_set():
            table = cache.table()
            strings = list(table.rows)
            wrong += table.lookup(strings).flatten().tolist() != [float(s) for s in strings]
        return wrong

    with ThreadPoolExecutor(3) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        pool.submit(add).result()
        done.set()
        assert sum(reader.result() for reader in readers) == 0
    assert len(cache) <= 50


def test_an_encoder_can_be_copied(encoder: TextEncoder) -> None:
    rows = encoder.embed_vocabulary(VOCABULARIES[0])
    for other in (copy.deepcopy(encoder), pickle.loads(pickle.dumps(encoder))):
        other.clear()
        torch.testing.assert_close(other.embed_vocabulary(VOCABULARIES[0]), rows)
