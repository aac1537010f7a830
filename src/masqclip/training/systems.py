"""A baseline by its name: from folders and settings to the stages that train it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from masqclip.baselines.loading import SYSTEMS, load_system
from masqclip.clip.vocabulary import Vocabulary
from masqclip.data.coco import CocoCaptions
from masqclip.data.digests import digest_model
from masqclip.data.open_coco import CocoFiles, CocoMasks
from masqclip.errors import MasqclipError
from masqclip.hub import find_weights
from masqclip.model import MasQClipModel
from masqclip.towers.families import folder_tokenizer
from masqclip.training.annotated import join_system
from masqclip.training.baseline_settings import BaselineSettings, OpenSegSettings
from masqclip.training.baselines import BaselineStage, LSegStage, MaskClipStage
from masqclip.training.grounded import OpenSegStage
from masqclip.training.xpm import STAGES as XPM

#: For each baseline its stages, in their order, and the folder of each in that of the run.
BASELINES: Mapping[str, Mapping[str, str]] = {
    "maskclip": {"maskclip": ""},
    "openseg": {"openseg": ""},
    "lseg": {"lseg": ""},
    "xpm": {name: folder for name, (_, folder) in XPM.items()},
}
#: Those that read captions.
GROUNDED = ("openseg", "xpm")


@dataclass(frozen=True)
class Ingredients:
    """What a baseline is trained from.

    Attributes:
        clip, proposer: folders, or names of the Hub.
        dataset: pictures with masks and categories.
        held_out: such to evaluate on.
        captions: by the ids of the dataset's pictures.
        names: the object words to look for in captions; every word unless given, but for XPM.
        caption_data: pictures with captions alone, for OpenSeg.
    """

    clip: str | Path
    proposer: str | Path
    dataset: CocoMasks
    held_out: CocoFiles | None = None
    captions: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    names: Vocabulary | None = None
    caption_data: CocoCaptions | None = None


def train_baseline(
    system: str,
    given: Ingredients,
    settings: Mapping[str, BaselineSettings],
    out: str | Path,
    train: Callable[[BaselineStage, Path], bool],
) -> bool:
    """Train all stages of a baseline, each a run of its own that starts from the one before.

    Args:
        system: its name, of `BASELINES`.
        given: what from.
        settings: of each of its stages.
        out: folder of the run; stages before the last have a folder in it.
        train: trains a stage in a folder, and says whether it got to the end.

    Returns:
        Whether all are done.

    Raises:
        MasqclipError: there is no such baseline, or it lacks what it is trained from.
    """
    if system not in BASELINES:
        raise MasqclipError(f"there is no baseline {system!r}: choose {', '.join(BASELINES)}")
    clip = find_weights(given.clip, what="CLIP")  # a name of the Hub becomes a folder to digest
    proposer = find_weights(given.proposer, what="proposer")
    sources = {"--clip": digest_model(clip), "--proposer": digest_model(proposer)}
    (first, *_) = BASELINES[system]
    model, tokenizer = _begin(system, clip, proposer, settings[first])
    for name, place in BASELINES[system].items():
        goal = Path(out) / place
        stage = _stage(name, model, tokenizer, given, settings[name], sources)
        if not train(stage, goal):
            return False
        if place:
            model, _ = load_system(goal)
            tokenizer = folder_tokenizer(goal, model.clip)
            sources = sources | {"the stage before": digest_model(goal)}
    return True


def _begin(
    system: str, clip: Path, proposer: Path, settings: BaselineSettings
) -> tuple[MasQClipModel, PreTrainedTokenizerBase]:
    """The untrained model of a baseline."""
    torch.manual_seed(settings.seed)  # parts that a stage does not train are in no checkpoint
    sizes: dict[str, Any] = {}
    if isinstance(settings, OpenSegSettings):
        names = ("width", "queries", "layers", "heads")
        sizes["system_config"] = {name: getattr(settings, name) for name in names}
    return join_system(SYSTEMS[system], clip, proposer, settings, **sizes)


def _stage(
    name: str,
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    given: Ingredients,
    settings: Any,
    sources: Mapping[str, str],
) -> BaselineStage:
    """A stage by its name."""
    options: dict[str, Any] = {"held_out": given.held_out, "sources": sources}
    if name == "maskclip":
        return MaskClipStage(model, tokenizer, given.dataset, settings, **options)
    if name == "lseg":
        return LSegStage(model, tokenizer, given.dataset, settings, **options)
    options["names"] = given.names
    captioned = (model, tokenizer, given.dataset, settings, given.captions)
    if name == "openseg":
        return OpenSegStage(*captioned, caption_data=given.caption_data, **options)
    if given.names is None:
        raise MasqclipError(
            "xpm looks for object words in captions: say which, by the name of a vocabulary or a "
            "file of names, with --words"
        )
    make, _ = XPM[name]
    return make(*captioned, **options)
