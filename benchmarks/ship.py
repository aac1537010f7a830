"""Put a trained model into the package: half precision, with its card.

    python benchmarks/ship.py --run runs/mini --sentences runs/sentences --clip runs/clip \
        --teacher runs/teacher --report report.json --unseen unseen.json --name masqclip-mini

The card's figures are read from the reports that `miniature.py` wrote and the run folders' own
progress files; nothing in it is typed by hand.
"""

from __future__ import annotations

import json
from pathlib import Path

import cyclopts
import torch

import masqclip
from masqclip.clip.tokenizer import load_tokenizer
from masqclip.data.files import write_atomically
from masqclip.model import MasQClipModel

SUMMARY = (
    "demonstration: a miniature world of 137 drawn things and 12 kinds of stuff; no photographs"
)


def main(
    *,
    run: Path,
    sentences: Path,
    clip: Path,
    teacher: Path,
    report: Path,
    unseen: Path,
    name: str = "masqclip-mini",
) -> None:
    """Write src/masqclip/models/NAME.

    Args:
        run: the folder of the tuning run, with the whole model.
        sentences: the folder of the first pretraining run.
        clip: the folder of the second one.
        teacher: the folder of the proposer's run.
        report: figures on held-out scenes, from miniature.py.
        unseen: figures on scenes of the studio that no training saw.
        name: of the model.
    """
    folder = Path(masqclip.__file__).parent / "models" / name
    MasQClipModel.from_pretrained(run, dtype=torch.float32).half().save_pretrained(folder)
    load_tokenizer(run).save_pretrained(folder)
    stages = {
        stage: json.loads((path / "progress.json").read_text())
        for stage, path in (
            ("pretrain", sentences),
            ("pretrain names", clip),
            ("teacher", teacher),
            ("tune", run),
        )
    }
    card = {
        "summary": SUMMARY,
        "stages": {
            stage: {"steps": done["steps"], "minutes": round(done["seconds"] / 60, 1)}
            for stage, done in stages.items()
        },
        "held_out": json.loads(report.read_text()),
        "unseen_studio": json.loads(unseen.read_text()),
    }
    write_atomically(folder / "model_card.json", (json.dumps(card, indent=1) + "\n").encode())
    size = sum(file.stat().st_size for file in folder.iterdir()) / 1e6
    print(f"{folder}: {size:.1f} MB")


if __name__ == "__main__":
    cyclopts.run(main)
