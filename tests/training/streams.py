"""Tiny runs on scenes that are drawn as they are needed: for tests, and for processes of theirs."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from masqclip.data.coco import is_base
from masqclip.data.stickers.drawn import DrawnScenes
from masqclip.data.stickers.source import StickerSource
from masqclip.training import captioned
from masqclip.training.loop import train
from masqclip.training.pretrain import PretrainStage
from masqclip.training.settings import LoopSettings, PretrainSettings, TeacherSettings
from masqclip.training.stage import Stage
from masqclip.training.teacher import TeacherStage
from tiny import tiny_proposer_config

PRETRAIN = PretrainSettings(
    image_size=32, vision_width=16, vision_layers=1, vision_heads=2, text_width=16, text_layers=1,
    text_heads=2, embedding_size=16, merges=20, batch_size=4, extra_captions=3, drop_patches=0.5,
)  # fmt: skip
TEACHER = TeacherSettings(
    augmentation="jitter", image_size=64, freeze_batch_norm=False, batch_size=2, num_points=32
)
#: So many teach a tokenizer of twenty merges as well as thousands.
SENTENCES = 60
SOURCED_STEPS = 400
STEPS = {"pretrain": 40, "muon": 40, "teacher": 8}


def addresses(cache: Path) -> list[str]:
    """A source of small pictures for the first half of a run, one of larger ones from then on."""
    return [
        f"stickers:sprites={cache},kind=portraits,size=16,styles=0.7,last=0.5,seed=1",
        f"stickers:sprites={cache},size=32,styles=0.5,first=0.4,seed=2,weight=2",
    ]


def stage(kind: str, cache: Path, *, steps: int = 0, **changes: Any) -> Stage:
    """Pretraining with all there is, by AdamW or (``muon``) with Muon; or a teacher."""
    if kind == "teacher":
        scenes = DrawnScenes(StickerSource(cache, size=48, styles=0.5, seed=3), keep=is_base)
        settings = TeacherSettings(**{**vars(TEACHER), **changes})
        return TeacherStage(scenes, tiny_proposer_config(), settings)
    more = {"muon_rate": 1e-3} if kind == "muon" else {}
    pretrain = PretrainSettings(**{**vars(PRETRAIN), **more, **changes})
    return PretrainStage(addresses(cache), pretrain, steps=steps or STEPS[kind])


def made(
    cache: Path, *sources: str | Path, steps: int = SOURCED_STEPS, **changes: Any
) -> PretrainStage:
    """A stage of pretraining; sources are settings of a stream, or a folder."""
    data = [
        f"stickers:sprites={cache},{source}" if isinstance(source, str) else source
        for source in sources
    ]
    return PretrainStage(data, PretrainSettings(**{**vars(PRETRAIN), **changes}), steps=steps)


def loop(kind: str, **changes: Any) -> LoopSettings:
    """So many steps, with a checkpoint four times."""
    steps = STEPS[kind]
    plain: dict[str, Any] = {"steps": steps, "save_every": steps // 4, "log_every": 1, "workers": 0}
    return LoopSettings(**plain | changes)


def losses(folder: Path) -> list[dict[str, float]]:
    """What was logged of each step, but for how long it took."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    took = ("images_per_second", "waiting")
    return [{name: line[name] for name in line if name not in took} for line in lines]


def read_back(stage: PretrainStage, batch: dict[str, Any]) -> list[str]:
    """The captions that a batch's tokens stand for, up to the end of each."""
    end = stage.tokenizer.eos_token_id
    rows = [ids[: ids.index(end)] for ids in batch["tokens"].tolist()]
    return [stage.tokenizer.decode(ids, skip_special_tokens=True) for ids in rows]


def main(kind: str, cache: str, out: str) -> None:
    """Train slowly enough to be killed."""
    captioned._SAMPLED_SENTENCES = SENTENCES
    made = stage(kind, Path(cache))
    whole = made.losses

    def slow(*given: Any) -> Any:
        time.sleep(0.05)
        return whole(*given)

    made.losses = slow  # type: ignore[method-assign]
    train(made, loop(kind), out, device="cpu")


if __name__ == "__main__":
    main(*sys.argv[1:])
