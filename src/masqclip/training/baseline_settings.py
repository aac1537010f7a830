"""The settings of the stages of `baselines`: plain data, importable without torch.

Defaults are the published values, as far as the parts are ours; docs/training.md names departures.
"""

from __future__ import annotations

from dataclasses import dataclass

from masqclip.errors import MasqclipError
from masqclip.training.settings import NamedSettings


@dataclass(frozen=True)
class BaselineSettings(NamedSettings):
    """What all of these stages have.

    Attributes:
        momentum: of SGD, which the published LSeg and XPM were trained by; 0 takes AdamW.
        encoder_multiplier: of the learning rate in the image encoder, where it learns.
        seed: of the weights, the order of the data and the augmentation.
    """

    momentum: float = 0.0
    encoder_multiplier: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.momentum < 1:
            raise MasqclipError(f"momentum is {self.momentum:g}; it is 0 or more, below 1")
        if not 0 <= self.encoder_multiplier < 1e6:
            raise MasqclipError(
                f"encoder_multiplier is {self.encoder_multiplier:g}; it is 0 or more"
            )


@dataclass(frozen=True)
class MaskClipSettings(BaselineSettings):
    """How MaskCLIP's relative mask attention is trained.

    Attributes:
        class_weight, mask_weight, dice_weight: of names and masks, in loss and matching.
        no_object_weight: of masks that match nothing, in the cross entropy.
        num_points: points at which masks are compared.
    """

    batch_size: int = 8
    class_weight: float = 2.0
    mask_weight: float = 5.0
    dice_weight: float = 5.0
    no_object_weight: float = 0.0
    num_points: int = 12_544


@dataclass(frozen=True)
class LSegSettings(BaselineSettings):
    """How LSeg+ is trained."""

    batch_size: int = 16
    learning_rate: float = 0.04
    weight_decay: float = 1e-4
    momentum: float = 0.9
    encoder_multiplier: float = 0.1


@dataclass(frozen=True)
class OpenSegSettings(BaselineSettings):
    """How OpenSeg is trained.

    Attributes:
        width: channels of its two maps and its queries.
        queries: masks a picture.
        layers: of cross attention.
        heads: of each; the paper does not say how many.
        mask_weight: of the masks' loss beside the captions'.
        caption_share: share of a batch that is pictures with captions alone, where there are such.
        score_threshold: a proposal scores more to be a mask of such a picture.
    """

    batch_size: int = 128
    learning_rate: float = 0.005
    weight_decay: float = 1e-5
    momentum: float = 0.9
    width: int = 640
    queries: int = 128
    layers: int = 3
    heads: int = 8
    mask_weight: float = 1.0
    caption_share: float = 0.5
    score_threshold: float = 0.8

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.caption_share < 1:
            raise MasqclipError(
                f"caption_share is {self.caption_share:g}; it is more than 0 and less than 1"
            )
        if self.width % (2 * self.heads):
            raise MasqclipError(
                f"width is {self.width}, which is no multiple of two times heads = {self.heads}"
            )


@dataclass(frozen=True)
class XpmSettings(BaselineSettings):
    """How one of XPM's three stages is trained.

    Attributes:
        cells: how many cells of a picture captions are compared with, drawn anew in every step.
        dice_cost_threshold, assign_size: which regions show an annotation, as in `TuneSettings`.
        noise_steps: steps after which the student's level of noise stays as it is; 0 = never.
    """

    batch_size: int = 8
    learning_rate: float = 0.005
    weight_decay: float = 1e-4
    momentum: float = 0.9
    cells: int = 100
    dice_cost_threshold: float = 0.4
    assign_size: int = 336
    noise_steps: int = 10_000
