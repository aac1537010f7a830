"""What can be exported, and one line about what cannot."""

from __future__ import annotations

import torch

from masqclip.configuration import MasQClipConfig
from masqclip.errors import MasqclipError
from masqclip.graphs.traceable import masks_by_chance
from masqclip.graphs.tracing import OPSETS
from masqclip.model import MasQClipModel

#: Proposers by transformers' model type that become graphs.
PROPOSERS = ("mask2former", "eomt", "eomt_dinov3")
_SQUARE = ("eomt", "eomt_dinov3")


# Whose exporter leaves sizes open in whole multiples; that of 2.13 is tested.
_OLDEST_TORCH = (2, 9)


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2])


def check_exportable(model: MasQClipModel, *, dynamic: bool, opset: int) -> None:
    """Refuse what cannot become graphs.

    Args:
        model: to be exported.
        dynamic: whether sizes are to stay open.
        opset: of ONNX.

    Raises:
        MasqclipError: it is so.
    """
    config = model.config
    if (found := _release(torch.__version__)) < _OLDEST_TORCH:
        raise MasqclipError(
            f"an export needs PyTorch {_OLDEST_TORCH[0]}.{_OLDEST_TORCH[1]} or newer, and this is "
            f"{found[0]}.{found[1]}: pip install --upgrade torch"
        )
    if opset not in OPSETS:
        raise MasqclipError(f"opset {opset}: give one from {OPSETS[0]} to {OPSETS[-1]}")
    if model.system != MasQClipModel.system:
        raise MasqclipError(
            f"a model of the system {model.system!r} cannot be exported: take one of masqclip"
        )
    kind = config.proposer_type
    if kind not in PROPOSERS:
        raise MasqclipError(
            f"a proposer of the type {kind!r} cannot be exported: take a Mask2Former or an EoMT"
        )
    if kind == "mask2former" and config.proposer_config.get("pre_norm"):
        raise MasqclipError(
            "a Mask2Former with pre_norm cannot be exported: take one without, as all published are"
        )
    if kind in _SQUARE:
        _check_square(config, int(model.proposer.config.image_size))
        if masks_by_chance(model.proposer):
            raise MasqclipError(
                "the EoMT masks its attention by chance (attn_mask_probs between 0 and 1), as "
                "while it is trained: set them to 0 or 1"
            )
    if dynamic and config.clip_input == "aspect":
        raise MasqclipError(
            "clip_input is 'aspect', and then CLIP's patches depend on a picture's size: leave "
            "--dynamic out"
        )


def _check_square(config: MasQClipConfig, side: int) -> None:
    """Refuse edges with which a picture would have to be resized a second time."""
    edges = (config.shortest_edge, config.longest_edge)
    if edges != (side, side) or side % config.size_divisor:
        raise MasqclipError(
            f"the EoMT sees squares of {side} pixels, and the model pictures by the edges "
            f"{edges[0]}:{edges[1]} in multiples of {config.size_divisor}: load it with the size "
            f"{side}:{side}, and export that"
        )


def fixed_frame(model: MasQClipModel, frame: tuple[int, int] | None) -> tuple[int, int]:
    """(H, W) of the only frame of a graph whose sizes are not left open.

    Args:
        model: to be exported.
        frame: that was asked for; None = a square of the model's shortest edge.

    Raises:
        MasqclipError: a side is no multiple of the model's divisor, or the frame does not fit.
    """
    config, divisor = model.config, model.config.size_divisor
    if frame is None:
        side = -(-config.shortest_edge // divisor) * divisor
        return side, side
    if any(side < divisor or side % divisor for side in frame):
        raise MasqclipError(
            f"frame {frame[0]}x{frame[1]}: give multiples of {divisor}, such as "
            f"{max(1, round(frame[0] / divisor)) * divisor}x"
            f"{max(1, round(frame[1] / divisor)) * divisor}"
        )
    if config.proposer_type in _SQUARE and max(frame) != config.longest_edge:
        raise MasqclipError(
            f"frame {frame[0]}x{frame[1]}: the EoMT sees a square of {config.longest_edge} pixels, "
            "which one side of the frame has to fill"
        )
    return frame
