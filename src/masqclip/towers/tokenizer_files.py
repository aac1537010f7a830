"""The vocabulary and merges in a tokenizer's folder, and nothing else of it.

A ``tokenizer.json`` can describe any chain of regular expressions and replacements, and the files
beside it can name code, templates and other repositories. Of all that a CLIP needs two tables and
the names of two tokens; how text is cut with them is CLIP's own way, which transformers knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from masqclip.data.files import read_bounded
from masqclip.data.json_files import MAX_JSON_BYTES, read_json
from masqclip.errors import MasqclipError
from masqclip.weights.folders import inside

FILES = ("tokenizer.json", "vocab.json")
_SETTINGS = "tokenizer_config.json"
#: What transformers calls a CLIP's tokenizer.
CLASSES = ("CLIPTokenizer", "CLIPTokenizerFast")
_LONGEST_CONTEXT = 100_000


@dataclass(frozen=True)
class TokenizerTables:
    """What tells a byte-pair tokenizer.

    Attributes:
        vocabulary: token to id; the ids are 0, 1, 2 and so on.
        merges: pairs of tokens, in the order in which they are joined.
        special: ``bos_token``, ``eos_token``, ``unk_token`` and perhaps ``pad_token``.
        context_length: that the tower was trained with.
    """

    vocabulary: dict[str, int]
    merges: list[tuple[str, str]]
    special: dict[str, str]
    context_length: int


def check_tokenizer_class(folder: Path) -> None:
    """Refuse a folder's tokenizer that cuts text in another way than CLIP's.

    Its tables may be read all the same, and its words would be nonsense to the text tower.

    Raises:
        MasqclipError: ``tokenizer_config.json`` names another kind.
    """
    kind = _settings(folder).get("tokenizer_class")
    if kind not in (None, *CLASSES):
        raise MasqclipError(
            f"the tokenizer of {str(folder)!r} is of the class {str(kind)[:60]!r}, which is not "
            f"supported: a CLIP's is {CLASSES[0]}"
        )


def read_tables(
    folder: Path, *, special: Mapping[str, str], context_length: int
) -> TokenizerTables:
    """Read the tables of a folder that has a tokenizer.

    Args:
        folder: with ``tokenizer.json``, or ``vocab.json`` and ``merges.txt``.
        special: the tokens' names where the folder does not say others.
        context_length: where the folder does not say another.

    Raises:
        MasqclipError: a file is damaged, or the tables are not those of a tokenizer; the message
            names the file.
    """
    check_tokenizer_class(folder)
    if (folder / FILES[0]).is_file():
        file = inside(folder, FILES[0])
        document = _object(read_json(file, what="the tokenizer"), file)
        model = _object(document.get("model"), file)
        vocabulary = dict(_object(model.get("vocab"), file))
        for added in _list(document.get("added_tokens") or [], file):
            entry = _object(added, file)
            if isinstance(entry.get("content"), str):
                vocabulary.setdefault(entry["content"], entry.get("id"))
        pairs = [_pair(pair, file) for pair in _list(model.get("merges"), file)]
    else:
        file = inside(folder, FILES[1])
        vocabulary = dict(_object(read_json(file, what="the tokenizer"), file))
        pairs = _merges(inside(folder, "merges.txt"))
    numbers = list(vocabulary.values())
    if not all(type(number) is int for number in numbers) or sorted(numbers) != list(
        range(len(numbers))
    ):
        raise MasqclipError(f"the tokenizer {str(file)!r} does not number its tokens from 0 on")
    for first, second in pairs:
        if first not in vocabulary or second not in vocabulary or first + second not in vocabulary:
            raise MasqclipError(
                f"the tokenizer {str(file)!r} joins {first[:40]!r} and {second[:40]!r}, which are "
                "not in its vocabulary"
            )
    settings = _settings(folder)
    names = dict(special) | {
        name: content
        for name in (*special, "pad_token")
        if (content := _content(settings.get(name))) in vocabulary
    }
    for name, token in names.items():
        if token not in vocabulary:
            raise MasqclipError(f"the tokenizer {str(file)!r} has no {name} {token!r}")
    length = settings.get("model_max_length")
    if isinstance(length, int) and 0 < length <= _LONGEST_CONTEXT:
        context_length = length
    return TokenizerTables(vocabulary, pairs, names, context_length)


def _settings(folder: Path) -> dict[str, Any]:
    if not (folder / _SETTINGS).is_file():
        return {}
    file = inside(folder, _SETTINGS)
    return _object(read_json(file, what="the tokenizer's settings"), file)


def _content(token: Any) -> str:
    """A special token, which stands as text or with its properties."""
    content = token.get("content") if isinstance(token, dict) else token
    return content if isinstance(content, str) else ""


def _merges(file: Path) -> list[tuple[str, str]]:
    content = read_bounded(file, max_bytes=MAX_JSON_BYTES, what="the tokenizer's merges")
    try:
        lines = content.decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise MasqclipError(f"the tokenizer's merges {str(file)!r} are no UTF-8 text") from error
    return [_pair(line, file) for line in lines if line.strip() and not line.startswith("#version")]


def _pair(pair: Any, file: Path) -> tuple[str, str]:
    parts = pair.split() if isinstance(pair, str) else pair
    if (
        not isinstance(parts, list)
        or len(parts) != 2
        or not all(isinstance(part, str) for part in parts)
    ):
        raise MasqclipError(f"the tokenizer {str(file)!r} joins what is no pair of tokens")
    return parts[0], parts[1]


def _object(value: Any, file: Path) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise MasqclipError(f"the tokenizer {str(file)!r} is no tokenizer of byte pairs")
    return value


def _list(value: Any, file: Path) -> list[Any]:
    if not isinstance(value, list):
        raise MasqclipError(f"the tokenizer {str(file)!r} is no tokenizer of byte pairs")
    return value
