"""Text embeddings: the paper's average, order of rows, caching, refusals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional
from transformers import CLIPConfig, CLIPModel

from masqclip.clip import name_encoder
from masqclip.clip.category import Category
from masqclip.clip.reading import tokenize
from masqclip.clip.text import TextEncoder
from masqclip.clip.text_cache import EmbeddingCache
from masqclip.clip.vocabulary import Vocabulary
from masqclip.errors import MasqclipError
from masqclip.towers.tokenizer import load_tokenizer

NAMES = ["cat", "a photo of a traffic light", "", "cat", "grass " * 30]


def small_clip(seed: int = 0, **text_config: int | str) -> CLIPModel:
    torch.manual_seed(seed)
    tower = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    return CLIPModel(
        CLIPConfig(
            text_config=tower | {"num_attention_heads": 2} | text_config,
            vision_config=tower | {"num_attention_heads": 2, "image_size": 32, "patch_size": 16},
            projection_dim=12,
        )
    ).eval()


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer()


@pytest.fixture(scope="module")
def clip() -> CLIPModel:
    return small_clip()


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every string that goes through the text tower."""
    seen: list[str] = []
    run = TextEncoder._run

    def counted(self: TextEncoder, strings: list[str], written: list[str]) -> np.ndarray:
        seen.extend(strings)
        return run(self, strings, written)

    monkeypatch.setattr(TextEncoder, "_run", counted)
    return seen


@pytest.mark.parametrize("end", [49_407, 2])
@pytest.mark.parametrize("batch_tokens", [4096, 40, 1])
def test_same_as_transformers(
    tokenizer, monkeypatch: pytest.MonkeyPatch, end: int, batch_tokens: int
) -> None:
    monkeypatch.setattr(name_encoder, "BATCH_TOKENS", batch_tokens)
    clip = small_clip(eos_token_id=end)
    with torch.no_grad():
        expected = clip.get_text_features(tokenize(NAMES, tokenizer)).pooler_output
    embedded = TextEncoder(clip, tokenizer).embed_strings(NAMES)
    torch.testing.assert_close(embedded, expected, atol=1e-6, rtol=1e-5)
    assert not embedded.is_inference()
    assert not embedded.requires_grad


def test_rows_of_a_vocabulary(clip: CLIPModel, tokenizer) -> None:
    encoder = TextEncoder(clip, tokenizer)
    vocabulary = Vocabulary(
        (Category("tree-merged", ("branch", "tree", "bush")), Category("cat")),
        distractors=("dog",),
        templates=("{}", "a {}."),
    )
    rows = encoder.embed_vocabulary(vocabulary)
    prompts = [["branch", "a branch.", "tree", "a tree.", "bush", "a bush."]]
    prompts += [[name, f"a {name}."] for name in ("cat", "dog", "background")]
    expected = torch.stack([encoder.embed_strings(group).mean(0) for group in prompts])
    torch.testing.assert_close(rows, functional.normalize(expected, dim=-1))
    first = functional.normalize(encoder.embed_strings(prompts[0]), dim=-1).mean(0)
    assert not torch.allclose(rows[0], functional.normalize(first, dim=0), atol=1e-4)


def test_order_and_chunks_do_not_matter(
    clip: CLIPModel, tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    vocabulary = Vocabulary.parse({f"name {i}": [f"name {i}", f"thing {i}"] for i in range(40)})
    whole = TextEncoder(clip, tokenizer).embed_vocabulary(vocabulary)
    monkeypatch.setattr(name_encoder, "CHUNK_STRINGS", 7)
    encoder = TextEncoder(clip, tokenizer, cache=False)
    turned = encoder.embed_vocabulary(vocabulary.subset(reversed(vocabulary.names)))
    torch.testing.assert_close(turned[:-1].flip(0), whole[:-1])
    torch.testing.assert_close(turned[-1], whole[-1])


def test_too_long_is_refused_with_its_count(clip: CLIPModel, tokenizer) -> None:
    encoder = TextEncoder(clip, tokenizer)
    vocabulary = Vocabulary.parse(["cat", "Big " * 80])
    with pytest.raises(MasqclipError, match=r"'Big Big .* is 82 tokens long .* at most 77"):
        encoder.embed_vocabulary(vocabulary)
    assert encoder.embed_strings(["cat " * 75]).shape == (1, 12)
    short = TextEncoder(small_clip(max_position_embeddings=8), tokenizer)
    with pytest.raises(MasqclipError, match=r"is 9 tokens long .* at most 8"):
        short.embed_strings(["cat " * 7])


def test_each_string_runs_once(clip: CLIPModel, tokenizer, runs: list[str]) -> None:
    encoder = TextEncoder(clip, tokenizer)
    encoder.embed_strings(["cat", "dog", "Cat "])
    first = encoder.embed_vocabulary(Vocabulary.parse("dog, cat"))
    second = encoder.embed_vocabulary(Vocabulary.parse("cat, bird, dog"))
    assert runs == ["cat", "dog", "background", "bird"]
    torch.testing.assert_close(first[0], second[2])
    second.zero_()  # what is handed out is the caller's
    assert encoder.embed_vocabulary(Vocabulary.parse("cat, bird, dog")).any()
    encoder.clear()
    encoder.embed_strings(["cat"])
    assert runs[-1] == "cat"


def test_no_cache(clip: CLIPModel, tokenizer, runs: list[str]) -> None:
    encoder = TextEncoder(clip, tokenizer, cache=False)
    assert torch.equal(encoder.embed_strings(["cat"]), encoder.embed_strings(["cat"]))
    assert runs == ["cat", "cat"]


def test_disk_cache(clip: CLIPModel, tokenizer, runs: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "new" / "cache"
    vocabulary = Vocabulary.parse("cat, dog, cr\u00e8me")
    first = TextEncoder(clip, tokenizer, cache=folder).embed_vocabulary(vocabulary)
    count = len(runs)
    second = TextEncoder(clip, tokenizer, cache=str(folder)).embed_vocabulary(vocabulary)
    assert torch.equal(first, second)
    assert len(runs) == count
    [file] = folder.iterdir()  # and no temporary file is left

    other = TextEncoder(small_clip(seed=1), tokenizer, cache=folder).embed_vocabulary(vocabulary)
    assert not torch.allclose(first, other, atol=1e-3)
    assert len(list(folder.iterdir())) == 2

    whole = file.read_bytes()
    for broken in (b"", whole[: len(whole) // 2], b"\xff" * 100):
        file.write_bytes(broken)
        again = TextEncoder(clip, tokenizer, cache=folder).embed_vocabulary(vocabulary)
        assert torch.equal(first, again)
        assert file.stat().st_size == len(whole)


def test_unwritable_cache_is_no_error(clip: CLIPModel, tokenizer, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("in the way")
    encoder = TextEncoder(clip, tokenizer, cache=file / "cache")
    assert encoder.embed_strings(["cat"]).shape == (1, 12)


def test_cache_is_bounded() -> None:
    cache = EmbeddingCache(2, max_strings=3)
    cache.add(["a", "b"], np.array([[1.0, 1.0], [2.0, 2.0]], np.float32))
    cache.add(["c", "d"], np.array([[3.0, 3.0], [4.0, 4.0]], np.float32))
    assert cache.table().missing(["a", "b", "c", "d"]) == ["a", "b"]
    assert cache.table().lookup(["d", "c"]).tolist() == [[4.0, 4.0], [3.0, 3.0]]
    cache.add(list("vwxyz"), np.ones((5, 2), np.float32))
    assert len(cache) == 3


def test_full_cache_still_answers(
    clip: CLIPModel, tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = TextEncoder(clip, tokenizer).embed_strings(["a", "b", "c", "d", "a"])
    small = TextEncoder(clip, tokenizer)
    small._cache = EmbeddingCache(12, max_strings=2)
    small.embed_strings(["b"])
    torch.testing.assert_close(small.embed_strings(["a", "b", "c", "d", "a"]), expected)


def test_foreign_tokenizer_is_refused(tokenizer) -> None:
    with pytest.raises(MasqclipError, match="49408 tokens and the CLIP's text tower 1000"):
        TextEncoder(small_clip(vocab_size=1000, bos_token_id=0, eos_token_id=1), tokenizer)
    with pytest.raises(MasqclipError, match=r"ends a text with token 49407 .* looks for 7"):
        TextEncoder(small_clip(eos_token_id=7), tokenizer)


def test_a_template_is_filled_in_and_otherwise_left_as_it_is(clip: CLIPModel, tokenizer) -> None:
    encoder = TextEncoder(clip, tokenizer)
    for names in (["cat {0}"], ["cat {0}", "kitten"]):
        words = Vocabulary(
            (Category("cat", tuple(names)), Category("dog")), templates=("{x} {} in {} {{",)
        )
        rows = encoder.embed_vocabulary(words)
        strings = [f"{{x}} {name} in {name} {{{{" for name in names]
        expected = functional.normalize(encoder.embed_strings(strings).mean(0), dim=0)
        torch.testing.assert_close(rows[0], expected)


class Words(dict[str, int]):
    """As much of a tokenizer as tells it from others."""

    eos_token_id = 9

    def get_vocab(self) -> dict[str, int]:
        return self


def test_whatever_changes_embeddings_changes_the_name_of_their_file() -> None:
    """A file of embeddings must never be found by an encoder that would make others."""
    words = Words(a=1, b=2)

    def name(clip: CLIPModel, tokenizer: Words = words) -> str:
        encoder = TextEncoder(clip, tokenizer, cache="folder")  # type: ignore[arg-type]
        return str(encoder._opened_cache()._file)

    def clip(**settings: int | str) -> CLIPModel:
        return small_clip(**{"vocab_size": 10, "eos_token_id": 9, **settings})

    def changed(module: str) -> CLIPModel:
        other = clip()
        with torch.no_grad():
            next(other.get_submodule(module).parameters()).view(-1)[0] += 1e-3
        return other

    others = [
        name(changed("text_projection")),
        name(changed("text_model.embeddings")),
        name(changed("text_model.final_layer_norm")),
        name(clip(num_attention_heads=4)),
        name(clip(eos_token_id=2)),
        name(clip(hidden_act="gelu")),
        name(clip().bfloat16()),
        name(clip(), Words(a=2, b=1)),
        name(clip(), Words(a=1, b=2, c=3)),
    ]
    assert len({name(clip()), *others}) == len(others) + 1
    assert name(clip()) == name(changed("vision_model"))
    assert name(clip(), Words(b=2, a=1)) == name(clip())


@pytest.mark.parametrize("kind", ["nan", "width", "count", "twice", "numbers", "half"])
def test_a_file_that_cannot_be_right_is_not_believed(kind: str, tmp_path: Path) -> None:
    strings: list[object] = ["a", "b"]
    rows = torch.ones(2, 3)
    if kind == "nan":
        rows[1, 2] = torch.nan
    elif kind == "width":
        rows = torch.ones(2, 4)
    elif kind == "count":
        rows = torch.ones(3, 3)
    elif kind == "twice":
        strings = ["a", "a"]
    elif kind == "numbers":
        strings = ["a", 1]
    else:
        rows = rows.half()
    file = tmp_path / "text.safetensors"
    save_file({"embeddings": rows}, file, metadata={"strings": json.dumps(strings)})
    cache = EmbeddingCache(3, file)
    assert len(cache) == (2 if kind == "half" else 0)
    assert cache.table().embeddings.dtype == np.float32


def test_a_bound_is_what_fits() -> None:
    cache = EmbeddingCache(1, max_strings=3)
    cache.add(["a"], np.ones((1, 1), np.float32))
    known = cache.add(["b", "c"], np.ones((2, 1), np.float32))
    assert len(cache) == len(known.rows) == 3
    assert cache.add(["b", "d"], np.ones((2, 1), np.float32)).missing(list("abcd")) == []
    assert cache.table().missing(list("abcd")) == ["a", "c"]


def test_only_so_many_vocabularies_are_kept_the_latest_ones(
    clip: CLIPModel, tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[str, ...]] = []
    embed_rows = TextEncoder._embed_rows
    monkeypatch.setattr(
        TextEncoder,
        "_embed_rows",
        lambda self, words, how: made.append(words.names) or embed_rows(self, words, how),
    )
    encoder = TextEncoder(clip, tokenizer)
    for name in ("a", "b", "c", "d", "a", "e", "b", "a"):
        encoder.embed_vocabulary(Vocabulary.parse([name]))
    assert [names[0] for names in made] == ["a", "b", "c", "d", "e", "a"]


def test_batches_hold_strings_of_like_length_in_bounded_numbers() -> None:
    lengths = [5, 77, 9, 3, 4096, 8, 2048]
    batches = list(name_encoder._batches(lengths))
    assert sorted(i for batch in batches for i in batch) == list(range(7))
    assert batches[:2] == [[4], [6, 1]]
    for batch in batches:
        assert (
            len(batch) * max(lengths[i] for i in batch) <= name_encoder.BATCH_TOKENS
            or len(batch) == 1
        )
