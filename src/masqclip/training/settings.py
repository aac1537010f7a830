"""The settings of every stage: plain data, importable without torch.

Defaults are the published values of the base-novel setting, but for those that docs/training.md
lists with their reasons. Recipes (`recipes/*.toml`) override them by name; `training/recipes.py`
reads those.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from masqclip.errors import MasqclipError

#: The least value of every number, of whatever stage.
_LEAST: Mapping[str, int] = {
    **dict.fromkeys(("steps", "accumulate", "save_every", "keep_last", "log_every"), 1),
    **dict.fromkeys(("batch_size", "image_size", "patch_size", "embedding_size", "rounds"), 1),
    **dict.fromkeys(("vision_width", "vision_layers", "vision_heads"), 1),
    **dict.fromkeys(("width", "queries", "layers", "heads", "cells"), 1),
    **dict.fromkeys(("text_width", "text_layers", "text_heads"), 1),
    **dict.fromkeys(("num_points", "assign_size", "shortest_edge", "longest_edge"), 1),
    **dict.fromkeys(("warmup_steps", "eval_every", "workers", "max_minutes", "clip_norm"), 0),
    **dict.fromkeys(("learning_rate", "weight_decay", "muon_rate", "backbone_multiplier"), 0),
    **dict.fromkeys(("class_weight", "mask_weight", "dice_weight", "no_object_weight"), 0),
    **dict.fromkeys(("noise_steps", "consistency", "mix_names"), 0),
    **dict.fromkeys(("background_weight", "loss_weight", "merges", "extra_captions", "seed"), 0),
}
#: Every number is below: of a larger seed and a step no generator takes the product, and rates and
#: weights stay far from where float32 ends.
_END = 2**32
#: What a teacher can be; `proposals/adapters.py` knows their sizes.
ARCHITECTURES = ("resnet50", "miniature", "maskformer", "miniature-maskformer")


@dataclass(frozen=True)
class LoopSettings:
    """How long and how a stage trains.

    Attributes:
        steps: optimizer steps of the whole run; the schedule spans them.
        warmup_steps: steps over which the learning rate climbs from zero.
        schedule: ``constant``, ``cosine`` or ``poly`` (to zero at the end, the latter as the share
            of steps left, to the power of 0.9), or ``step``.
        milestones: for ``step``, the steps at each of which the rate falls to a tenth.
        clip_norm: largest L2 norm of all gradients together; 0 leaves them alone.
        precision: of the forward pass: ``no`` (float32), ``bf16`` or ``fp16``, where autocast
            allows it.
        accumulate: micro-batches into which each process splits its share of a batch, to save
            memory; the losses stay the same.
        seed: of everything random.
        save_every: steps between checkpoints.
        keep_last: how many of the newest checkpoints are kept.
        eval_every: steps between evaluations on held-out data; 0 = at the end only.
        log_every: steps between lines of the log.
        max_minutes: stop, with a checkpoint, after so long; 0 = no limit. A later run goes on.
        workers: processes that prepare batches, for each that trains.
    """

    steps: int
    warmup_steps: int = 0
    schedule: str = "constant"
    milestones: tuple[int, ...] = ()
    clip_norm: float = 0.01
    precision: str = "no"
    accumulate: int = 1
    seed: int = 0
    save_every: int = 500
    keep_last: int = 2
    eval_every: int = 0
    log_every: int = 50
    max_minutes: float = 0.0
    workers: int = 1

    def __post_init__(self) -> None:
        for name, allowed in (
            ("schedule", ("constant", "cosine", "poly", "step")),
            ("precision", ("no", "bf16", "fp16")),
        ):
            value = getattr(self, name)
            if value not in allowed:
                raise MasqclipError(f"{name} is {value!r}; it must be one of {', '.join(allowed)}")
        _check_numbers(self)
        if self.schedule == "step" and not self.milestones:
            raise MasqclipError("the schedule 'step' needs milestones, for instance [9000]")

    def learning_rate_factor(self, step: int) -> float:
        """What the learning rates are multiplied by in a step."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        done = min(1.0, (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps))
        if self.schedule == "cosine":
            return 0.5 * (1 + math.cos(math.pi * done))
        if self.schedule == "poly":
            return (1 - done) ** 0.9
        if self.schedule == "step":
            return 0.1 ** sum(step >= milestone for milestone in self.milestones)
        return 1.0


@dataclass(frozen=True)
class PretrainSettings:
    """The CLIP to train, and how.

    Attributes:
        family: of the CLIP: ``clip``, or ``siglip``, which has no class token.
        contrast: how pictures and captions are told apart: ``softmax``, all of a batch compete, or
            ``sigmoid``, each pair is judged by itself; the family's own unless given.
        image_size: side of CLIP's square input in pixels.
        patch_size: side of a patch in pixels.
        vision_width, vision_layers, vision_heads: the image transformer.
        text_width, text_layers, text_heads: the text transformer.
        embedding_size: of the space that both share.
        merges: byte-pair merges that the tokenizer learns.
        batch_size: pictures a step.
        extra_captions: captions of other pictures that join a step as negatives.
        drop_patches: share of a picture's patches that are not looked at.
        mosaics: share of the steps in which four and four pictures are laid together, and each is
            read under its own patches; pictures that are too large for it stay alone.
        compile: compile the transformers' blocks with `torch.compile`, which takes a while before
            the first step of every size of pictures and, on a CPU, a C++ compiler.
        learning_rate, weight_decay: of AdamW; gains, biases and embeddings do not decay.
        second_moment: how slowly AdamW forgets the size of gradients (its second beta).
        muon_rate: learning rate of Muon on the matrices of both transformers (`optimizers.py`); 0
            leaves them to AdamW.
        muon_steps: of Newton and Schulz's iteration in Muon: with fewer, a matrix's weak directions
            gain less.
        seed: of the weights, the order of the data and the windows.
    """

    family: str = "clip"
    contrast: str = ""
    image_size: int = 112
    patch_size: int = 8
    vision_width: int = 192
    vision_layers: int = 6
    vision_heads: int = 3
    text_width: int = 128
    text_layers: int = 3
    text_heads: int = 2
    embedding_size: int = 192
    merges: int = 1000
    batch_size: int = 128
    extra_captions: int = 0
    drop_patches: float = 0.0
    mosaics: float = 0.0
    compile: bool = False
    learning_rate: float = 1e-3
    weight_decay: float = 0.1
    second_moment: float = 0.999
    muon_rate: float = 0.0
    muon_steps: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        _check_numbers(self)
        _one_of("contrast", self.contrast, ("", "softmax", "sigmoid"))
        for name in ("drop_patches", "second_moment"):
            if not 0 <= getattr(self, name) < 1:
                raise MasqclipError(f"{name} is {getattr(self, name):g}; it is 0 or more, below 1")
        if not 0 <= self.mosaics <= 1:
            raise MasqclipError(f"mosaics is {self.mosaics:g}; it is a share of the steps, 0 to 1")
        if self.image_size < self.patch_size:
            raise MasqclipError(
                f"image_size is {self.image_size}; it must be patch_size, {self.patch_size}, or "
                "more"
            )
        for part in ("vision", "text"):
            width, heads = getattr(self, f"{part}_width"), getattr(self, f"{part}_heads")
            if width % heads:
                raise MasqclipError(
                    f"{part}_width is {width}, which {part}_heads = {heads} do not divide evenly; "
                    f"give a {part}_width that is a multiple"
                )
        if not 1 <= self.muon_steps < 100:  # torch's own bounds
            raise MasqclipError(f"muon_steps is {self.muon_steps}; it is 1 or more, below 100")


@dataclass(frozen=True)
class FrameSettings:
    """Which pictures become training frames, and how.

    Attributes:
        augmentation: ``jitter`` is large-scale jitter in a square (base-novel setting), ``square``
            a plain resize to it that loses the aspect (cross-dataset setting), ``none`` only pads:
            what is seen in use is what is trained on.
        image_size: side of the square in pixels; not for ``none``.
        min_scale, max_scale: range of the jitter.
        flip: mirror half of the pictures.
        filter_empty: leave out pictures without an annotation of a kept category that is no crowd
            (detectron2 does so with instances, not with panoptic segments): on others a model
            learns that there is nothing, whatever stands in them.
    """

    augmentation: str = "jitter"
    image_size: int = 1024
    min_scale: float = 0.1
    max_scale: float = 2.0
    flip: bool = True
    filter_empty: bool = True

    def __post_init__(self) -> None:
        _check_numbers(self)
        _one_of("augmentation", self.augmentation, ("jitter", "square", "none"))
        if not 0 < self.min_scale <= self.max_scale < math.inf:
            raise MasqclipError(
                f"min_scale is {self.min_scale:g} and max_scale {self.max_scale:g}; both are more "
                "than 0, and the first is not the larger one"
            )


@dataclass(frozen=True)
class NamedSettings(FrameSettings):
    """What the stages have in common that learn names.

    Attributes:
        batch_size: pictures a step.
        learning_rate, weight_decay: of AdamW.
        clip_input: how CLIP sees a frame: ``stretch`` or ``aspect`` (`MasQClipConfig`).
        shortest_edge, longest_edge: how the finished model resizes pictures (`MasQClipConfig`).
        seed: of the order of the data and the augmentation.
    """

    batch_size: int = 4
    learning_rate: float = 1e-4
    weight_decay: float = 0.05
    clip_input: str = "stretch"
    shortest_edge: int = 800
    longest_edge: int = 1333
    seed: int = 0


@dataclass(frozen=True)
class TuneSettings(NamedSettings):
    """How the queries are tuned.

    Attributes:
        learns: which projections of the mask class tokens learn: ``q`` (published), ``k``, ``v``,
            ``qk`` or ``qkv``; or ``clip``, all of the vision tower and their queries. Their
            embedding learns always.
        masks: what the queries learn to name: ``proposals`` (published), ``ground-truth`` or
            ``both``.
        dice_cost_threshold: a proposal takes the nearest annotation's name when one minus their
            Dice overlap is below this.
        assign_size: side of the square at which masks are compared, in pixels.
        background_weight: of proposals that match nothing, in the mean.
        loss_weight: of the whole loss.
        query_start: where the queries start, if they learn: ``clip`` (CLIP's own) or ``random``
            (published).
        consistency: weight of staying near what the untuned queries say of a mask (in the spirit of
            MaskCLIP++, Zeng et al., 2024); not published for MasQCLIP.
        mix_names: weight of naming mixtures of two masks by the mixture of their names (OVSNet,
            2025), which stand for names that nothing is annotated with; not published either.
    """

    learns: str = "q"
    masks: str = "proposals"
    dice_cost_threshold: float = 0.4
    assign_size: int = 336
    background_weight: float = 0.1
    loss_weight: float = 2.0
    query_start: str = "clip"
    consistency: float = 0.0
    mix_names: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _one_of("learns", self.learns, ("q", "k", "v", "qk", "qkv", "clip"))
        _one_of("masks", self.masks, ("proposals", "ground-truth", "both"))


@dataclass(frozen=True)
class TeacherSettings(FrameSettings):
    """How a proposer is trained.

    Attributes:
        architecture: a Mask2Former, ``resnet50`` (published) or ``miniature``, or a MaskFormer,
            ``maskformer`` or ``miniature-maskformer``.
        backbone: a ResNet of Hugging Face's format, a folder or a name on the Hub, whose weights
            the backbone starts from; random ones unless given.
        freeze_batch_norm: keep the backbone's batch norms as they came, with its weights or with
            the teacher's; a teacher that starts at random cannot.
        batch_size: pictures a step.
        learning_rate, weight_decay: of AdamW.
        muon_rate: learning rate of Muon on the matrices of the transformers (`optimizers.py`); 0
            leaves them to AdamW, as published.
        backbone_multiplier: of the learning rate in the backbone.
        class_weight, mask_weight, dice_weight: of the three losses.
        no_object_weight: of queries that match nothing, in the cross-entropy.
        num_points: points at which masks are compared.
        seed: of the weights, the order of the data and the augmentation.
    """

    architecture: str = "resnet50"
    backbone: str = ""
    freeze_batch_norm: bool = True
    batch_size: int = 16
    learning_rate: float = 1e-4
    weight_decay: float = 0.05
    muon_rate: float = 0.0
    backbone_multiplier: float = 0.1
    class_weight: float = 2.0
    mask_weight: float = 5.0
    dice_weight: float = 5.0
    no_object_weight: float = 0.1
    num_points: int = 12_544
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        _one_of("architecture", self.architecture, ARCHITECTURES)


@dataclass(frozen=True)
class DistillSettings(TeacherSettings):
    """How a student is trained; architecture and backbone are its teacher's.

    Attributes:
        batch_size: pictures a step.
        score_threshold: a teacher's mask counts when its score is above this.
        dice_threshold: and when its Dice overlap with every annotation, and with every better mask
            that counts, is below this.
        rounds: how often the student becomes the next teacher; the published scripts have one
            round, the paper two.
    """

    batch_size: int = 4
    score_threshold: float = 0.8
    dice_threshold: float = 0.1
    rounds: int = 1


def _check_numbers(settings: Any) -> None:
    """Refuse numbers below their least, and those that are none or have no end."""
    for name in (field.name for field in fields(settings) if field.name in _LEAST):
        value, least = getattr(settings, name), _LEAST[name]
        if not least <= value < math.inf:
            raise MasqclipError(f"{name} is {value}; it must be {least} or more")
        if value >= _END:
            raise MasqclipError(f"{name} is {value}; it must be below {_END}")


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise MasqclipError(f"{name} is {value!r}; it is one of {', '.join(allowed)}")
