"""Put a trained model into the package: half precision, with its card.

    python benchmarks/ship.py --run model --stage clip --stage teacher --stage model \
        --measured heldout/untuned --measured heldout/tuned --measured unseen/tuned

The card's figures are read from the folders that `masqclip evaluate --out` wrote, whose names are
their titles and whose parents' names say on which scenes, and from the run folders' own progress
files; nothing in it is typed by hand. A model that goes on from the shipped one names, as
``--earlier``, the stages of the present card that led to it too.
"""

from __future__ import annotations

import json
from pathlib import Path

import cyclopts
import torch

import masqclip
from masqclip.clip.tokenizer import load_tokenizer
from masqclip.data.files import write_atomically
from masqclip.evaluation.report import read_column
from masqclip.model import MasQClipModel

SUMMARY = (
    "demonstration: a miniature world of 617 drawn things and 27 kinds of stuff; no photographs"
)


def main(
    *,
    run: Path,
    stage: list[Path],
    earlier: list[str] | None = None,
    measured: list[Path] | None = None,
    keep_world: bool = False,
    name: str = "masqclip-mini",
) -> None:
    """Write src/masqclip/models/NAME.

    Args:
        run: the folder of the tuning run, with the whole model.
        stage: the folders of the runs that led to it, in their order.
        earlier: stages of the card that is there, which come before these.
        measured: folders of measurements, SCENES/TITLE; of the shipped model, so ship it twice.
        keep_world: keep what the card says of the model's own world (`own_world.py`), which follows
            from its CLIP alone: for a model whose CLIP is that of the shipped one.
        name: of the model.
    """
    folder = Path(masqclip.__file__).parent / "models" / name
    goes_on = keep_world or earlier
    before = json.loads((folder / "model_card.json").read_text()) if goes_on else {}
    MasQClipModel.from_pretrained(run, dtype=torch.float32).half().save_pretrained(folder)
    load_tokenizer(run).save_pretrained(folder)
    stages = {path.name: json.loads((path / "progress.json").read_text()) for path in stage}
    card = {
        "summary": SUMMARY,
        "stages": {stage: before["stages"][stage] for stage in earlier or []}
        | {
            name: {"steps": done["step"], "minutes": round(done["seconds"] / 60, 1)}
            for name, done in stages.items()
        },
        "measured": _figures(measured or []),
        **{key: before[key] for key in before if keep_world and key == "world"},
    }
    write_atomically(folder / "model_card.json", (json.dumps(card, indent=1) + "\n").encode())
    size = sum(file.stat().st_size for file in folder.iterdir()) / 1e6
    print(f"{folder}: {size:.1f} MB")


def _figures(folders: list[Path]) -> dict[str, dict[str, dict[str, float]]]:
    """By scenes and by title, the figures of all tasks of each measurement."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for folder in folders:
        column = read_column(folder)
        found.setdefault(folder.resolve().parent.name, {})[column.title] = {
            name: value
            for figures in column.figures.values()
            for name, value in figures.items()
            if value is not None
        }
    return found


if __name__ == "__main__":
    cyclopts.run(main)
