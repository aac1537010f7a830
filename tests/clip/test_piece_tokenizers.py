"""Tokenizers of pieces: tokens as transformers' own classes make them, and damaged files."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest
from family_folders import FAMILIES, small_model, write_tokenizer
from transformers import Siglip2Tokenizer, Tipsv2Tokenizer, XLMRobertaTokenizer

from masqclip import MasqclipError
from masqclip.towers.charsmap import check_charsmap
from masqclip.towers.families import family_of
from masqclip.towers.piece_tokenizers import siglip_tokenizer
from masqclip.towers.tokenizer import load_tokenizer

TEXTS = [
    "a cat",
    "This is a photo of the Red Car.",
    "  T-shirt,  (über)   naïve! ",
    "кот и 狗 🐈",
    "a\tb\nc - d_e",
    "x",
]
TYPE = {"siglip": "siglip", "siglip2": "siglip"}
OWN: dict[str, Any] = {
    "siglip2": Siglip2Tokenizer, "metaclip_2": XLMRobertaTokenizer, "tipsv2": Tipsv2Tokenizer,
}  # fmt: skip


def loaded(folder: Path, kind: str) -> Any:
    config = small_model(kind).config.text_config
    return family_of(TYPE.get(kind, kind)).load_tokenizer(folder, config)


def refused(folder: Path, kind: str) -> str:
    with pytest.raises(MasqclipError) as caught:
        loaded(folder, kind)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def changed(folder: Path, **model: Any) -> None:
    file = folder / "tokenizer.json"
    document = json.loads(file.read_text())
    document["model"] |= model
    file.write_text(json.dumps(document))


@pytest.mark.parametrize("kind", OWN)
def test_tokens_are_those_of_transformers(tmp_path: Path, kind: str) -> None:
    write_tokenizer(tmp_path, kind)
    more = {"add_bos_token": False, "add_eos_token": True} if kind == "siglip2" else {}
    theirs = OWN[kind].from_pretrained(tmp_path, **more)
    ours = loaded(tmp_path, kind)
    for text in TEXTS:
        assert ours([text])["input_ids"][0] == theirs(text)["input_ids"], text
    cut = {"truncation": True, "max_length": 4, "padding": False}
    assert ours(TEXTS, **cut)["input_ids"] == theirs(TEXTS, **cut)["input_ids"]


def test_siglips_words_are_plain_and_end(tmp_path: Path) -> None:
    """As big_vision and transformers' SentencePiece tokenizer, which is compared where it is."""
    write_tokenizer(tmp_path, "siglip")
    tokenizer = loaded(tmp_path, "siglip")
    ids = tokenizer(["T-Shirt,  (a cat)!", "tshirt a cat", "TSHIRT A CAT"])["input_ids"]
    assert ids[0] == ids[1] == ids[2]
    assert ids[0][-1] == tokenizer.eos_token_id == tokenizer.pad_token_id == 1
    assert ids[0].count(1) == 1
    pieces = tokenizer.convert_ids_to_tokens(ids[0][:-1])
    assert "".join(pieces) == "▁tshirt▁a▁cat"
    long = tokenizer(["a cat on a red car"], truncation=True, max_length=4)["input_ids"][0]
    assert len(long) == 4
    assert long[-1] == 1


def test_specials_around_a_text(tmp_path: Path) -> None:
    around = {"siglip": (0, 1), "siglip2": (0, 1), "metaclip_2": (1, 1), "tipsv2": (0, 0)}
    for kind, (before, behind) in around.items():
        write_tokenizer(tmp_path / kind, kind)
        tokenizer = loaded(tmp_path / kind, kind)
        (ids,) = tokenizer(["a red car"])["input_ids"]
        special = {tokenizer.eos_token_id, tokenizer.bos_token_id}
        assert [ids[0] in special, ids[-1] in special] == [before, behind], kind
    assert (
        siglip_tokenizer(tmp_path / "siglip2", small_model("siglip2").config.text_config)(
            ["A Red CAR"]
        )["input_ids"]
        == loaded(tmp_path / "siglip2", "siglip2")(["a red car"])["input_ids"]
    )


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_tokenizer_is_saved_and_read_back(tmp_path: Path, kind: str) -> None:
    write_tokenizer(tmp_path / "first", kind)
    first = loaded(tmp_path / "first", kind)
    first.save_pretrained(tmp_path / "second")
    second = loaded(tmp_path / "second", kind)
    assert second(TEXTS)["input_ids"] == first(TEXTS)["input_ids"]
    assert second.pad_token_id == first.pad_token_id


def test_a_siglip_that_was_trained_here_keeps_openais_kind(tmp_path: Path) -> None:
    load_tokenizer().save_pretrained(tmp_path)
    config = small_model("siglip").config.text_config
    with pytest.raises(MasqclipError, match="has 49408 tokens and the text tower 400"):
        siglip_tokenizer(tmp_path, config)
    config.vocab_size = 49_408
    tokenizer = siglip_tokenizer(tmp_path, config)
    assert tokenizer(["a cat"])["input_ids"] == load_tokenizer()(["a cat"])["input_ids"]


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ({"type": "WordPiece"}, "of the kind 'WordPiece', which is not supported"),
        ({"type": "BPE"}, "of the kind 'BPE', which is not supported"),
        ({"vocab": {}}, "has no pieces"),
        ({"vocab": [["a", 0.0], ["a", 0.0]]}, "has a piece twice"),
        ({"vocab": [["a", "b"]]}, "no piece with a score"),
        ({"vocab": [["", 0.0]]}, "no piece with a score"),
        ({"vocab": [["x" * 2_000, 0.0]]}, "no piece with a score"),
        ({"vocab": [["<unk>", 0.0]]}, "has no token '</s>'"),
        ({"unk_id": 10**6}, "unk_id = 1000000: there is no such piece"),
        ({"unk_id": "x"}, "unk_id = x: there is no such piece"),
    ],
)
def test_damaged_pieces(tmp_path: Path, model: dict[str, Any], said: str) -> None:
    write_tokenizer(tmp_path, "siglip")
    changed(tmp_path, **({"unk_id": 0} if "vocab" in model else {}), **model)
    assert said in refused(tmp_path, "siglip")


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ({"merges": [["a", "nowhere"]]}, "is no pair of its pieces"),
        ({"merges": 3}, "has no merges"),
        ({"vocab": {"a": 1}}, "does not number its pieces from 0 on"),
        ({"vocab": {"a": "0"}}, "does not number its pieces from 0 on"),
        ({"byte_fallback": False}, "which is not supported"),
        ({"type": "Unigram"}, "has no pieces"),
    ],
)
def test_damaged_pairs(tmp_path: Path, model: dict[str, Any], said: str) -> None:
    write_tokenizer(tmp_path, "siglip2")
    changed(tmp_path, **model)
    assert said in refused(tmp_path, "siglip2")


def test_other_files_of_a_tokenizer(tmp_path: Path) -> None:
    assert "holds no tokenizer: it needs tokenizer.json" in refused(tmp_path, "siglip")
    (tmp_path / "spiece.model").write_bytes(b"\n")
    said = refused(tmp_path, "siglip")
    assert "only SentencePiece's spiece.model: install sentencepiece" in said
    for content in ("{", "[]", '{"model": 3}', '{"model": {"type": []}}'):
        (tmp_path / "tokenizer.json").write_text(content)
        assert "tokenizer.json" in refused(tmp_path, "siglip")
    write_tokenizer(tmp_path, "siglip")
    assert "joined in pairs" in refused(tmp_path, "tipsv2")
    write_tokenizer(tmp_path, "siglip2")
    assert "MetaCLIP 2's pieces have scores" in refused(tmp_path, "metaclip_2")


def test_nothing_else_of_a_file_is_run(tmp_path: Path) -> None:
    """A regular expression that takes for ever, and a template of other tokens, change nothing."""
    write_tokenizer(tmp_path, "siglip")
    before = loaded(tmp_path, "siglip")(TEXTS)["input_ids"]
    file = tmp_path / "tokenizer.json"
    document = json.loads(file.read_text())
    document["normalizer"] = {
        "type": "Replace", "pattern": {"Regex": "(a+)+$"}, "content": "dog",
    }  # fmt: skip
    document["post_processor"] = {"type": "Nothing that there is"}
    file.write_text(json.dumps(document))
    assert loaded(tmp_path, "siglip")(TEXTS)["input_ids"] == before


def charsmap() -> bytes:
    """A table that reads A as a: a root, a leaf for the letter, and its value."""
    units = [0] * 512
    units[0] = 256 << 10  # the root's children start at 256
    units[256 ^ 65] = ((256 ^ 65) ^ 300) << 10 | 1 << 8 | 65  # A, whose value stands at 300
    units[300] = 1 << 31
    return (2048).to_bytes(4, "little") + b"".join(u.to_bytes(4, "little") for u in units) + b"a\0"


def test_a_table_of_characters(tmp_path: Path) -> None:
    write_tokenizer(tmp_path, "metaclip_2")
    file = tmp_path / "tokenizer.json"
    document = json.loads(file.read_text())

    def write(content: bytes) -> None:
        told = {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(content).decode()}
        document["normalizer"] = {"type": "Sequence", "normalizers": [told]}
        file.write_text(json.dumps(document))

    write(charsmap())
    tokenizer = loaded(tmp_path, "metaclip_2")
    small, large = tokenizer(["a cat", "A cAt"])["input_ids"]
    assert small == large
    good = charsmap()
    for content in (
        b"",
        b"\4\0\0\0",
        b"\4\0\0\0abcd",
        good[:900],
        good[:4] + (1 << 30).to_bytes(4, "little") + good[8:],
        good[: 4 + 4 * (256 ^ 65)] + (((1 << 20) << 10) | 1 << 8 | 65).to_bytes(4, "little")
        + good[8 + 4 * (256 ^ 65) :],
        good[: 4 + 4 * 300] + (1 << 31 | 77).to_bytes(4, "little") + good[8 + 4 * 300 :],
        good[:-2] + b"\xff\0",
    ):  # fmt: skip
        write(content)
        assert "a damaged table of characters" in refused(tmp_path, "metaclip_2")
        with pytest.raises(MasqclipError, match=re.escape("x has a damaged table")):
            check_charsmap(content, source="x")
    document["normalizer"] = {"type": "Precompiled", "precompiled_charsmap": "?"}
    file.write_text(json.dumps(document))
    assert "a damaged table of characters" in refused(tmp_path, "metaclip_2")
