"""The shipped tokenizer against tokens that the authors' code recorded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from masqclip.clip.tokenizer import load_tokenizer, token_ids, tokenize
from masqclip.errors import MasqclipError

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
