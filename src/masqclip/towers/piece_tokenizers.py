"""Tokenizers of pieces, each as transformers makes it for its family, of tables that are read here.

| family | pieces | read in lower case | without punctuation | around a text |
|---|---|---|---|---|
| SigLIP | unigram | yes | yes | an end token |
| SigLIP 2 | Gemma's BPE | yes | no | an end token |
| MetaCLIP 2 | unigram of XLM-V | no | no | a start and an end token |
| TIPS | BPE | yes | no | nothing |
"""

from __future__ import annotations

import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

from masqclip.errors import MasqclipError
from masqclip.hub.local import has_tokenizer
from masqclip.towers.piece_tables import FILE, SETTINGS, PieceTables, read_pieces
from masqclip.towers.tokenizer import load_tokenizer
from masqclip.towers.tokenizer_files import CLASSES
from masqclip.weights.preprocessing import read_object

# SentencePiece's own files, which hold the same tables in another format.
_MODELS = ("spiece.model", "tokenizer.model", "sentencepiece.bpe.model")
_PUNCTUATION = "[" + "".join(f"\\{sign}" for sign in string.punctuation) + "]"


def siglip_tokenizer(folder: Path, text_config: Any) -> Any:
    """The tokenizer of a SigLIP's folder: SigLIP's, SigLIP 2's, or OpenAI's kind, with which
    `masqclip train pretrain` makes small ones.

    Args:
        folder: of the model.
        text_config: of its word tower.

    Raises:
        MasqclipError: there is none, it is damaged, or it is not the tower's.
    """
    tokenizer = load_tokenizer(folder) if _is_openais_kind(folder) else _loaded(folder, _siglip)
    check_pieces(text_config, tokenizer)
    return tokenizer


def metaclip2_tokenizer(folder: Path, text_config: Any) -> Any:
    """The tokenizer of a MetaCLIP 2's folder. Arguments and errors as in `siglip_tokenizer`."""
    tokenizer = _loaded(folder, _metaclip2)
    check_ended_pieces(text_config, tokenizer)
    return tokenizer


def tips_tokenizer(folder: Path, text_config: Any) -> Any:
    """The tokenizer of a TIPS's folder. Arguments and errors as in `siglip_tokenizer`."""
    tokenizer = _loaded(folder, _tips)
    check_pieces(text_config, tokenizer)
    return tokenizer


def check_pieces(text_config: Any, tokenizer: Any) -> None:
    """Refuse a tokenizer that cannot be a word tower's.

    Args:
        text_config: of the tower.
        tokenizer: of transformers.

    Raises:
        MasqclipError: it has more tokens than the tower, or none to pad with.
    """
    if len(tokenizer) > text_config.vocab_size:
        raise MasqclipError(
            f"the tokenizer has {len(tokenizer)} tokens and the text tower "
            f"{text_config.vocab_size}: load the tokenizer that belongs to it"
        )
    if tokenizer.pad_token_id is None:
        raise MasqclipError("the tokenizer has no token to pad with (pad_token)")


def check_ended_pieces(text_config: Any, tokenizer: Any) -> None:
    """`check_pieces` for a tower that answers at the first end token.

    Raises:
        MasqclipError: so, or the tokenizer ends texts with another token.
    """
    check_pieces(text_config, tokenizer)
    if tokenizer.eos_token_id != text_config.eos_token_id:
        raise MasqclipError(
            f"the tokenizer ends a text with token {tokenizer.eos_token_id} and the text tower "
            f"looks for {str(text_config.eos_token_id)[:40]}: load the tokenizer that belongs to it"
        )


def _is_openais_kind(folder: Path) -> bool:
    """Whether a folder's tokenizer cuts texts as OpenAI's does."""
    if not (folder / FILE).is_file():
        return has_tokenizer(folder)
    return read_object(folder, SETTINGS).get("tokenizer_class") in CLASSES


def _loaded(folder: Path, build: Callable[[PieceTables], Any]) -> Any:
    if not (folder / FILE).is_file():
        there = [name for name in _MODELS if (folder / name).is_file()]
        rest = (
            f"only SentencePiece's {there[0]}: install sentencepiece and protobuf (pip install "
            "sentencepiece protobuf), load it with transformers' AutoTokenizer, and its "
            f"save_pretrained writes {FILE}"
            if there
            else f"no tokenizer: it needs {FILE}"
        )
        raise MasqclipError(f"the folder {str(folder)!r} holds {rest}")
    tables = read_pieces(folder)
    try:
        return build(tables)
    except MasqclipError:
        raise
    except Exception as error:  # tokenizers raises bare Exceptions for tables that do not fit
        cause = str(error).strip().split("\n")[0]
        raise MasqclipError(f"{tables.source} cannot be loaded: {cause[:200]}") from error


def _siglip(tables: PieceTables) -> Any:
    if tables.scores is None:
        from transformers import Siglip2Tokenizer

        names = _named(tables, unk="<unk>", bos="<bos>", eos="<eos>", pad="<pad>", mask="<mask>")
        return Siglip2Tokenizer(
            vocab=_numbered(tables), merges=tables.merges, padding_side="right",
            add_bos_token=False, add_eos_token=True, **names,
        )  # fmt: skip
    return _siglip1(tables, tables.scores)


def _siglip1(tables: PieceTables, scores: list[float]) -> Any:
    """As transformers' `SiglipTokenizer`, which needs SentencePiece itself."""
    from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers, processors
    from tokenizers.models import Unigram
    from transformers import PreTrainedTokenizerFast

    names = _named(tables, unk="<unk>", eos="</s>", pad="</s>")
    unknown = tables.id_of(names["unk_token"])
    inner = Tokenizer(Unigram(list(zip(tables.pieces, scores, strict=True)), unknown))
    steps = [
        normalizers.Lowercase(),
        normalizers.Replace(Regex(_PUNCTUATION), ""),
        normalizers.Replace(Regex(r"\s+"), " "),
        normalizers.Strip(),
    ]
    if tables.charsmap is not None:
        steps.append(normalizers.Precompiled(tables.charsmap))
        steps.append(normalizers.Replace(Regex(" {2,}"), " "))
    inner.normalizer = normalizers.Sequence(steps)
    inner.pre_tokenizer = pre_tokenizers.Metaspace(replacement="\u2581", prepend_scheme="always")
    end = names["eos_token"]
    inner.post_processor = processors.TemplateProcessing(
        single=["$A", end], special_tokens=[(end, tables.id_of(end))]
    )
    return PreTrainedTokenizerFast(tokenizer_object=inner, **names)


def _metaclip2(tables: PieceTables) -> Any:
    from transformers import XLMRobertaTokenizer

    if tables.scores is None:
        raise MasqclipError(f"{tables.source} joins pairs: MetaCLIP 2's pieces have scores")
    names = _named(tables, bos="<s>", eos="</s>", unk="<unk>", pad="<pad>", mask="<mask>")
    if tables.id_of(names["unk_token"]) != 3:  # where that class has it
        raise MasqclipError(f"{tables.source} has {names['unk_token']!r} at another place than 3")
    return XLMRobertaTokenizer(
        vocab=list(zip(tables.pieces, tables.scores, strict=True)),
        _spm_precompiled_charsmap=tables.charsmap,
        **names,
    )


def _tips(tables: PieceTables) -> Any:
    from transformers import Tipsv2Tokenizer

    if tables.merges is None:
        raise MasqclipError(f"{tables.source} has scores: TIPS's pieces are joined in pairs")
    return Tipsv2Tokenizer(
        vocab=_numbered(tables),
        merges=tables.merges,
        _spm_precompiled_charsmap=tables.charsmap,
        **_named(tables, unk="<unk>", pad="<pad>"),
    )


def _numbered(tables: PieceTables) -> dict[str, int]:
    return {piece: i for i, piece in enumerate(tables.pieces)}


def _named(tables: PieceTables, **usual: str) -> dict[str, str]:
    """The special tokens of a family, as the folder names them or by their usual names."""
    names = {f"{kind}_token": token for kind, token in usual.items()}
    names |= {name: token for name, token in tables.special.items() if name in names}
    for token in names.values():
        tables.id_of(token)
    return names
