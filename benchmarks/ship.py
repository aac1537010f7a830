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
from masqclip.data.files import write_atomically, writing
from masqclip.data.json_files import read_json
from masqclip.errors import MasqclipError
from masqclip.evaluation.report import read_column
from masqclip.model import MasQClipModel
from masqclip.towers.tokenizer import load_tokenizer
from mistakes import mistakes_told

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
    # All is read before any of it is written: a model without its own card is none to ship.
    before = read_json(folder / "model_card.json", what="the card") if goes_on else {}
    for known in earlier or []:
        if known not in before["stages"]:
            there = ", ".join(before["stages"])
            raise MasqclipError(f"--earlier {known}: the card of {name} has the stages {there}")
    names = [*(earlier or []), *(path.name for path in stage)]
    if twice := {one for one in names if names.count(one) > 1}:
        raise MasqclipError(
            f"two stages are called {min(twice)!r}: the card knows them by their folders' names; "
            "rename one"
        )
    stages = {path.name: read_json(path / "progress.json", what="the progress") for path in stage}
    figures = _figures(measured or [])
    model = MasQClipModel.from_pretrained(run, dtype=torch.float32)
    tokenizer = load_tokenizer(run)
    with writing(folder):
        model.half().save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    card = {
        "summary": SUMMARY,
        "stages": {stage: before["stages"][stage] for stage in earlier or []}
        | {
            name: {"steps": done["step"], "minutes": round(done["seconds"] / 60, 1)}
            for name, done in stages.items()
        },
        "measured": figures,
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
    with mistakes_told():
        cyclopts.run(main)
