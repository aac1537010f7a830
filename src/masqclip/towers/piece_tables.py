"""The pieces in a tokenizer's folder, and nothing else of it.

SigLIP's, MetaCLIP 2's and TIPS's tokenizers were learned by SentencePiece: pieces of words, with
scores (unigram) or with pairs that are joined (BPE), and a table of characters that are read as
others. Like those of OpenAI's tokenizer (`tokenizer_files.py`) these tables are read out of
``tokenizer.json``, and what is done with them is what transformers does for the family
(`piece_tokenizers.py`): the file's own regular expressions, replacements and templates are not run.
"""

from __future__ import annotations

import base64
import binascii
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from masqclip.data.json_files import read_json
from masqclip.errors import MasqclipError
from masqclip.towers.charsmap import check_charsmap
from masqclip.weights.folders import inside
from masqclip.weights.preprocessing import read_object

FILE = "tokenizer.json"
SETTINGS = "tokenizer_config.json"
# That of XLM-V, which MetaCLIP 2 reads with, has 900,000 pieces and 60 MB.
_MAX_BYTES = 128_000_000
_MAX_PIECES = 2_000_000
_LONGEST_PIECE = 1_000


@dataclass(frozen=True)
class PieceTables:
    """What tells a tokenizer of pieces.

    Attributes:
        pieces: in the order of their ids.
        scores: of each, the logarithm of how likely it is; None of a tokenizer that joins pairs.
        merges: pairs of pieces, in the order in which they are joined; None of one with scores.
        unknown: the id of what stands for no known piece, if the file says one.
        charsmap: what characters are read as, as SentencePiece compiles it; None for nothing.
        special: tokens that ``tokenizer_config.json`` names, ``eos_token`` and so on.
        source: what they were read from, for the errors.
    """

    pieces: list[str]
    scores: list[float] | None
    merges: list[tuple[str, str]] | None
    unknown: int | None
    charsmap: bytes | None
    special: dict[str, str]
    source: str

    def id_of(self, piece: str) -> int:
        """The id of a piece that the tokenizer must have.

        Raises:
            MasqclipError: it has none of that name.
        """
        if piece not in self.pieces:
            raise MasqclipError(f"{self.source} has no token {piece[:40]!r}")
        return self.pieces.index(piece)


def read_pieces(folder: Path) -> PieceTables:
    """Read the tables of a folder that has a ``tokenizer.json``.

    Raises:
        MasqclipError: the file is missing or damaged, or its tables are no tokenizer's of pieces;
            the message names the file.
    """
    source = f"the tokenizer {str(folder / FILE)!r}"
    document = read_json(inside(folder, FILE), what="the tokenizer", max_bytes=_MAX_BYTES)
    model = document.get("model") if isinstance(document, dict) else None
    if not isinstance(model, dict):
        raise MasqclipError(f"{source} is no tokenizer: there is no model in it")
    kind = model.get("type")
    scores: list[float] | None = None
    merges: list[tuple[str, str]] | None = None
    if kind == "Unigram":
        pieces, scores = _scored(model.get("vocab"), source)
    elif kind == "BPE" and model.get("byte_fallback") is True:
        pieces, merges = _joined(model, source)
    else:
        raise MasqclipError(
            f"{source} is of the kind {str(kind)[:40]!r}, which is not supported for this family: "
            "its tokenizer is SentencePiece's, a Unigram or a BPE with byte_fallback"
        )
    if len(set(pieces)) != len(pieces):
        raise MasqclipError(f"{source} has a piece twice")
    unknown = model.get("unk_id")
    if unknown is not None and (type(unknown) is not int or not 0 <= unknown < len(pieces)):
        raise MasqclipError(f"{source} says unk_id = {str(unknown)[:40]}: there is no such piece")
    return PieceTables(
        pieces=pieces,
        scores=scores,
        merges=merges,
        unknown=unknown,
        charsmap=_charsmap(document.get("normalizer"), source),
        special=_special(folder, set(pieces)),
        source=source,
    )


def _scored(vocabulary: Any, source: str) -> tuple[list[str], list[float]]:
    """Pieces and scores of a unigram tokenizer, which stand in the order of their ids."""
    if not isinstance(vocabulary, list) or not 0 < len(vocabulary) <= _MAX_PIECES:
        raise MasqclipError(f"{source} has no pieces, or more than {_MAX_PIECES:,}")
    pieces, scores = [], []
    for entry in vocabulary:
        if (
            not isinstance(entry, list)
            or len(entry) != 2
            or not _is_piece(entry[0])
            or isinstance(entry[1], bool)
            or not isinstance(entry[1], int | float)
            or not math.isfinite(entry[1])
        ):
            raise MasqclipError(f"{source} has {str(entry)[:60]}, which is no piece with a score")
        pieces.append(entry[0])
        scores.append(float(entry[1]))
    return pieces, scores


def _joined(model: dict[str, Any], source: str) -> tuple[list[str], list[tuple[str, str]]]:
    """Pieces, in the order of their ids, and pairs of a tokenizer that joins pairs."""
    vocabulary, pairs = model.get("vocab"), model.get("merges")
    if not isinstance(vocabulary, dict) or not 0 < len(vocabulary) <= _MAX_PIECES:
        raise MasqclipError(f"{source} has no pieces, or more than {_MAX_PIECES:,}")
    places = list(vocabulary.values())
    whole = all(type(place) is int for place in places) and all(map(_is_piece, vocabulary))
    if not whole or sorted(places) != list(range(len(places))):
        raise MasqclipError(f"{source} does not number its pieces from 0 on")
    if not isinstance(pairs, list):
        raise MasqclipError(f"{source} has no merges")
    merges = []
    for pair in pairs:
        parts = pair.split(" ") if isinstance(pair, str) else pair
        if (
            not isinstance(parts, list)
            or len(parts) != 2
            or not all(isinstance(part, str) and part in vocabulary for part in parts)
            or parts[0] + parts[1] not in vocabulary
        ):
            raise MasqclipError(f"{source} joins {str(pair)[:60]}, which is no pair of its pieces")
        merges.append((parts[0], parts[1]))
    return sorted(vocabulary, key=vocabulary.__getitem__), merges


def _is_piece(piece: Any) -> bool:
    return isinstance(piece, str) and 0 < len(piece) <= _LONGEST_PIECE


def _charsmap(normaliser: Any, source: str) -> bytes | None:
    """The first compiled table of characters among a tokenizer's normalisers."""
    steps: Any = [normaliser]
    if isinstance(normaliser, dict) and normaliser.get("type") == "Sequence":
        steps = normaliser.get("normalizers")
    for step in steps if isinstance(steps, list) else []:
        if isinstance(step, dict) and step.get("type") == "Precompiled":
            coded = step.get("precompiled_charsmap")
            if coded is None:  # of a SentencePiece that leaves characters alone
                continue
            try:
                content = base64.b64decode(coded, validate=True)
            except (binascii.Error, TypeError, ValueError) as error:
                raise MasqclipError(
                    f"{source} has a damaged table of characters (precompiled_charsmap)"
                ) from error
            check_charsmap(content, source=source)
            return content
    return None


def _special(folder: Path, pieces: set[str]) -> dict[str, str]:
    """The special tokens that the settings name and the tokenizer has."""
    found = {}
    for name, token in read_object(folder, SETTINGS).items():
        content = token.get("content") if isinstance(token, dict) else token
        if name.endswith("_token") and isinstance(content, str) and content in pieces:
            found[name] = content
    return found
