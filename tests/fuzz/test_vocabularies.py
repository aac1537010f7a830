"""Whatever is given as a vocabulary is one, or is refused in one line, and soon."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from vocabularies import cases, files

from masqclip.clip.text import TextEncoder
from masqclip.clip.vocabulary import Vocabulary
from masqclip.errors import MasqclipError
from masqclip.segmenter import Segmenter

SEEDS = range(int(os.environ.get("MASQCLIP_FUZZ_SEED", "0")), 10**9)
NUMBER = int(os.environ.get("MASQCLIP_FUZZ_CASES", "400"))


def parse(name: str, value: object, folder: Path) -> Vocabulary | str:
    """The vocabulary, or the one line that refuses it."""
    if "FILE." in name:
        file = folder / f"words.{name.rpartition('.')[2]}"
        file.write_bytes(value)  # type: ignore[arg-type]
        value = file
    try:
        return Vocabulary.parse(value)  # type: ignore[arg-type]
    except MasqclipError as error:
        return str(error)
    except Exception as error:
        raise AssertionError(f"case {name}: {error!r:.300}") from error


@pytest.fixture(scope="module")
def text() -> TextEncoder:
    return Segmenter.from_pretrained("masqclip-mini", device="cpu").text


def test_anything_is_a_vocabulary_or_refused(tmp_path: Path, text: TextEncoder) -> None:
    taken = refused = 0
    for name, value in cases(SEEDS[0], NUMBER):
        started = time.process_time()
        words = parse(name, value, tmp_path)
        assert time.process_time() - started < 2, name
        if isinstance(words, str):
            refused += 1
            assert "\n" not in words, name
            assert len(words.encode()) < 3000, name
            continue
        taken += 1
        # What was let in can be written anywhere.
        json.dumps(words.names, ensure_ascii=False).encode()
        if len(words) < 50:
            try:
                rows = text.embed_vocabulary(words)
            except MasqclipError:  # more tokens than the tower reads
                continue
            assert rows.isfinite().all(), name
    assert taken > NUMBER / 10
    assert refused > NUMBER / 10


def test_files_of_names_are_read_as_they_were_written(tmp_path: Path) -> None:
    for name, content, names in files(SEEDS[0], NUMBER):
        file = tmp_path / name
        file.write_bytes(content)
        assert list(Vocabulary.parse(file).names) == names, (name, content)
