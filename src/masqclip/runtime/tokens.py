"""Names as tokens, by the ``tokenizer.json`` of an exported model.

Such a file can describe any chain of replacements and regular expressions, some of which take for
ever. Those of the families of CLIPs here are few, and known: what else a file holds is refused.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from masqclip.data.files import read_bounded
from masqclip.data.json_files import parse_json
from masqclip.errors import MasqclipError, require
from masqclip.runtime.settings import TextSettings
from masqclip.towers.charsmap import check_charsmap

TOKENIZER = "tokenizer.json"
_MAX_BYTES = 100_000_000  # 256,000 pieces are 35 MB

_STEPS = frozenset(
    {"NFC", "NFKC", "Lowercase", "Strip", "ByteLevel", "Metaspace", "WhitespaceSplit"}
)
_PATTERNS = frozenset(
    {
        # OpenAI's words.
        r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+",
        r"\s+",
        r" {2,}",
    }
)


class Tokens:
    """Cuts texts as an exported model's tokenizer does. Threads may share one.

    Args:
        folder: of the model.
        settings: what is put around and behind each text.

    Raises:
        MasqclipError: the tokenizer is damaged, or does what none of a CLIP does.
    """

    def __init__(self, folder: Path, settings: TextSettings) -> None:
        library: Any = require("tokenizers", extra="onnx", purpose="an exported model")
        path = folder / TOKENIZER
        content = read_bounded(path, max_bytes=_MAX_BYTES, what="the tokenizer")
        source = f"the tokenizer {str(path)!r}"
        document = parse_json(content, source=source, unique=False)
        if not isinstance(document, dict):
            raise MasqclipError(f"{source} is damaged: export the model anew")
        for part in ("normalizer", "pre_tokenizer"):
            for step in _steps(document.get(part), source):
                _check_step(step, source)
        kept = {key: document.get(key) for key in ("version", "added_tokens", "normalizer")}
        kept |= {key: document.get(key) for key in ("pre_tokenizer", "model")}
        try:
            self._tokenizer = library.Tokenizer.from_str(json.dumps(kept))
        except Exception as error:  # tokenizers raises bare Exceptions
            cause = str(error).strip().split("\n")[0]
            raise MasqclipError(f"{source} cannot be loaded: {cause[:200]}") from error
        self._settings = settings

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of texts at their own lengths, with what the tower wants around them."""
        told = self._settings
        found = self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [[*told.prefix_ids, *one.ids, *told.suffix_ids] for one in found]


def _steps(part: Any, source: str, depth: int = 0) -> Iterator[dict[str, Any]]:
    """The steps of a normaliser or pre-tokeniser, one after the other."""
    if part is None:
        return
    if not isinstance(part, dict) or depth > 2:
        raise MasqclipError(f"{source} is damaged: export the model anew")
    if part.get("type") != "Sequence":
        yield part
        return
    for key in ("normalizers", "pretokenizers"):
        for step in part.get(key) or ():
            yield from _steps(step, source, depth + 1)


def _check_step(step: dict[str, Any], source: str) -> None:
    """Refuse a step that no tokenizer of a CLIP has."""
    kind, pattern = step.get("type"), step.get("pattern")
    if kind in _STEPS:
        return
    if kind in ("Replace", "Split") and isinstance(pattern, dict) and len(pattern) == 1:
        literal = pattern.get("String")
        if isinstance(literal, str) and 0 < len(literal) <= 20:
            return
        if pattern.get("Regex") in _PATTERNS or _is_set(pattern.get("Regex")):
            return
    if kind == "Precompiled":
        try:
            content = base64.b64decode(step["precompiled_charsmap"], validate=True)
        except (KeyError, TypeError, ValueError):
            content = b""
        check_charsmap(content, source=source)
        return
    raise MasqclipError(f"{source} has a step that no CLIP's has ({str(step)[:80]})")


def _is_set(pattern: object) -> bool:
    """Whether a regular expression is one set of characters, which takes no time."""
    if not isinstance(pattern, str) or not 2 < len(pattern) <= 200:
        return False
    inner = pattern[1:-1].replace("\\[", "").replace("\\]", "").replace("\\\\", "")
    return pattern[0] == "[" and pattern[-1] == "]" and "[" not in inner and "]" not in inner
