"""What a model never read is not told of where a picture shows it."""

from __future__ import annotations

from pathlib import Path

from masqclip.clip.vocabulary import Vocabulary
from masqclip.segmenter import Segmenter


def test_a_name_that_is_shown_needs_not_be_read() -> None:
    segmenter = Segmenter.from_pretrained("masqclip-mini", device="cpu")
    beach = segmenter.encode(Path(__file__).parents[1] / "examples/beach.png")
    shown = segmenter.example("zivuko", beach, box=(256, 410, 378, 496))
    both = shown.joined(Vocabulary.parse(["kazoomba"]))
    (note,) = segmenter.notes_on(both, "panoptic")
    assert "kazoomba" in note
    assert "zivuko" not in note
