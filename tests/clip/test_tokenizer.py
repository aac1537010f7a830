"""The shipped tokenizer against tokens that the authors' code recorded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from masqclip.clip.read_names import MAX_TEXT_CHARACTERS, read_text, too_long
from masqclip.clip.reading import token_ids, tokenize
from masqclip.errors import MasqclipError
from masqclip.towers import tokenizer_files
from masqclip.towers.tokenizer import load_tokenizer

GOLDEN = Path(__file__).parents[1] / "data" / "clip.safetensors"


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer()


def test_tokens_are_those_recorded(tokenizer) -> None:
    with safe_open(GOLDEN, "pt") as file:
        texts = json.loads(file.metadata()["texts"])
        recorded = file.get_tensor("tokens").long()
    assert torch.equal(tokenize(texts, tokenizer), recorded)


def test_vocabulary_is_openai_s(tokenizer) -> None:
    assert len(tokenizer) == 49_408
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (49_406, 49_407)


def test_truncation_is_asked_for(tokenizer) -> None:
    long = "cat " * 76
    with pytest.raises(MasqclipError, match=r"'cat cat .*\.\.\.' is 78 tokens long .* at most 77"):
        tokenize(["dog", long], tokenizer)
    cut = tokenize(["dog", long], tokenizer, truncate=True)
    assert cut.shape == (2, 77)
    assert cut[1, 0] == tokenizer.bos_token_id
    assert cut[1, -1] == tokenizer.eos_token_id
    assert torch.equal(tokenize(["cat " * 75], tokenizer)[0], cut[1])


def test_no_texts(tokenizer) -> None:
    assert token_ids([], tokenizer) == []
    assert tokenize([], tokenizer).shape == (0, 77)


def test_saved_and_loaded_again(tokenizer, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path)
    texts = ["Cr\u00e8me br\u00fbl\u00e9e", "it's 42", "\u65e5\u672c\u8a9e"]
    assert token_ids(texts, load_tokenizer(tmp_path)) == token_ids(texts, tokenizer)


def test_missing_and_broken_folders(tmp_path: Path) -> None:
    with pytest.raises(MasqclipError, match="no tokenizer folder"):
        load_tokenizer(tmp_path / "nowhere")
    with pytest.raises(MasqclipError, match=r"no tokenizer folder '\./nowhere'"):
        load_tokenizer("./nowhere")
    with pytest.raises(MasqclipError, match="holds no tokenizer"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{broken")
    with pytest.raises(MasqclipError, match="cannot be loaded"):
        load_tokenizer(str(tmp_path))


def test_what_just_fits_is_read_whole(tokenizer) -> None:
    """Start and end count; what is cut ends in the end token, what is short is padded with 0."""
    for truncate in (False, True):
        rows = tokenize(["cat dog", "cat"], tokenizer, context_length=4, truncate=truncate)
        (ids,) = token_ids(["cat dog"], tokenizer)
        assert rows.tolist() == [ids, [ids[0], ids[1], ids[3], 0]]
    with pytest.raises(MasqclipError, match=r"is 4 tokens long .* at most 3"):
        tokenize(["cat dog"], tokenizer, context_length=3)
    cut = tokenize(["cat dog"], tokenizer, context_length=3, truncate=True)
    assert cut.tolist() == [[ids[0], ids[1], ids[3]]]


def test_a_name_is_shown_whole_up_to_eighty_characters() -> None:
    whole, longer = "n" * 80, "n" * 81
    assert f"the name {whole!r} is 90 tokens" in str(too_long(whole, 90, 77))
    assert f"the name '{'n' * 77}...' is 90 tokens" in str(too_long(longer, 90, 77))


def test_a_text_may_be_as_long_as_is_said() -> None:
    assert len(read_text("a" * MAX_TEXT_CHARACTERS)) == MAX_TEXT_CHARACTERS
    with pytest.raises(MasqclipError, match="more than the limit"):
        read_text("a" * (MAX_TEXT_CHARACTERS + 1))


def test_a_context_is_as_long_as_the_folder_says_within_reason(tmp_path: Path) -> None:
    """Some folders say 1e30, which is no length: what is asked for holds then."""
    (tmp_path / "vocab.json").write_text('{"a": 0, "b": 1, "ab": 2, "s": 3}')
    (tmp_path / "merges.txt").write_text("#version: 0.2\na b\n")
    special = dict.fromkeys(("bos_token", "eos_token", "unk_token"), "s")
    longest = tokenizer_files._LONGEST_CONTEXT
    for said, length in ((1, 1), (50, 50), (longest, longest), (longest + 1, 77), (0, 77)):
        (tmp_path / "tokenizer_config.json").write_text(f'{{"model_max_length": {said}}}')
        found = tokenizer_files.read_tables(tmp_path, special=special, context_length=77)
        assert found.context_length == length
    assert found.merges == [("a", "b")]
