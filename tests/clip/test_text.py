"""Text embeddings: the paper's average, order of rows, caching, refusals."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional
from transformers import CLIPConfig, CLIPModel

from masqclip.clip import text
from masqclip.clip.text import TextEncoder, load_tokenizer, tokenize
from masqclip.clip.text_cache import EmbeddingCache
from masqclip.clip.vocabulary import Category, Vocabulary
from masqclip.errors import MasqclipError

NAMES = ["cat", "a photo of a traffic light", "", "cat", "grass " * 30]


def small_clip(seed: int = 0, **text_config: int) -> CLIPModel:
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
    run_tower = TextEncoder._run_tower

    def counted(self: TextEncoder, strings: list[str], written: list[str]) -> torch.Tensor:
        seen.extend(strings)
        return run_tower(self, strings, written)

    monkeypatch.setattr(TextEncoder, "_run_tower", counted)
    return seen


@pytest.mark.parametrize("end", [49_407, 2])
@pytest.mark.parametrize("batch_tokens", [4096, 40, 1])
def test_same_as_transformers(
    tokenizer, monkeypatch: pytest.MonkeyPatch, end: int, batch_tokens: int
) -> None:
    monkeypatch.setattr(text, "BATCH_TOKENS", batch_tokens)
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
    monkeypatch.setattr(text, "CHUNK_STRINGS", 7)
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
    cache.add(["a", "b"], torch.tensor([[1.0, 1.0], [2.0, 2.0]]))
    cache.add(["c", "d"], torch.tensor([[3.0, 3.0], [4.0, 4.0]]))
    assert cache.table().missing(["a", "b", "c", "d"]) == ["a", "b"]
    assert cache.table().lookup(["d", "c"]).tolist() == [[4.0, 4.0], [3.0, 3.0]]
    cache.add(list("vwxyz"), torch.ones(5, 2))
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
