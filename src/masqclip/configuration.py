"""What a MasQCLIP is made of, as a folder's ``config.json`` holds it."""

from __future__ import annotations

from typing import Any

from transformers import CLIPConfig, PretrainedConfig

from masqclip.errors import MasqclipError
from masqclip.refinements import Refinements

# What a setting may be: beyond, no machine takes the frames, or scores are no numbers. The largest
# frames that were published are 2560 long.
LARGEST_SHORTEST_EDGE, LARGEST_SIZE = 2_048, 4_096
_BOUNDS: dict[str, tuple[float, float, type]] = {
    "shortest_edge": (1, LARGEST_SHORTEST_EDGE, int),
    "longest_edge": (1, LARGEST_SIZE, int),
    "size_divisor": (1, 1_024, int),
    "logit_scale": (1e-6, 10_000, float),
    "logit_bias": (-1_000, 1_000, float),
    "object_threshold": (0, 1, float),
    "overlap_threshold": (0, 1, float),
}
_LARGEST_CHANNEL = 1e6
_LONGEST_NAME = 200
#: What mask class tokens may have of their own: projections of queries, keys, values.
OWN_PROJECTIONS = ("q", "k", "v", "qk", "qkv")


class MasQClipConfig(PretrainedConfig):
    """The sizes of the parts, and how a picture is prepared for them.

    Args:
        clip_config: transformers' `CLIPConfig`, as a dictionary.
        proposer_type: the adapter in `proposals/` that makes the masks.
        proposer_config: what that adapter is built from, as a dictionary.
        query_start: where untrained queries start: ``clip`` (the model is MaskCLIP) or ``random``.
        own_projections: which projections are the mask class tokens' own (`MaskQueries`): ``q``
            (published), ``k``, ``v``, ``qk`` or ``qkv``.
        clip_input: how CLIP sees the padded frame: ``stretch``ed to its square (published), or in
            the frame's own ``aspect``, as many patches in all, positions interpolated.
        shortest_edge, longest_edge: a picture is resized, keeping its aspect, until its shorter
            side is `shortest_edge` pixels, or its longer one `longest_edge` if that comes first.
        size_divisor: sides are zero-padded at the bottom right to a multiple of this.
        pixel_mean, pixel_std: the proposer's normalisation of 0..255 RGB values.
        clip_mean, clip_std: CLIP's normalisation of 0..1 RGB values.
        clip_resample: how pictures are resized for CLIP: ``bicubic`` (published) or ``bilinear``.
        logit_scale: inverse temperature of the classifier. CLIPs that were trained to the end
            have learned 100, where the published model fixes it; a CLIP of its own has its own.
        logit_bias: what is added to a scaled cosine where pairs were judged one by one (SigLIP).
        scores: ``softmax``: names compete for a mask (published); ``sigmoid``: each is judged by
            itself, with `logit_bias`.
        object_threshold, overlap_threshold: of the panoptic rule.
        system: which of the systems of `baselines` reads the masks; this package's own is
            ``masqclip``.
        system_config: the sizes of what that system has of its own, as a dictionary.
        refinements: how masks are read and named where that is not as published, as a dictionary
            (`Refinements`).
        tuned_names: the names that tuning had annotations of, where that is known.
    """

    model_type = "masqclip"

    def __init__(
        self,
        *,
        clip_config: dict[str, Any] | None = None,
        proposer_type: str = "mask2former",
        proposer_config: dict[str, Any] | None = None,
        query_start: str = "clip",
        own_projections: str = "q",
        clip_input: str = "stretch",
        shortest_edge: int = 800,
        longest_edge: int = 1333,
        size_divisor: int = 32,
        pixel_mean: tuple[float, float, float] = (123.675, 116.28, 103.53),
        pixel_std: tuple[float, float, float] = (58.395, 57.12, 57.375),
        clip_mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073),
        clip_std: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711),
        clip_resample: str = "bicubic",
        logit_scale: float = 100.0,
        logit_bias: float | None = None,
        scores: str = "softmax",
        object_threshold: float = 0.3,
        overlap_threshold: float = 0.3,
        system: str = "masqclip",
        system_config: dict[str, Any] | None = None,
        refinements: dict[str, Any] | None = None,
        tuned_names: list[str] | None = None,
        **kwargs: Any,
    ) -> None:
        check_pictures(
            shortest_edge=shortest_edge,
            longest_edge=longest_edge,
            size_divisor=size_divisor,
            pixel_mean=pixel_mean,
            pixel_std=pixel_std,
        )
        _check_numbers(
            logit_scale=logit_scale,
            object_threshold=object_threshold,
            overlap_threshold=overlap_threshold,
        )
        if logit_bias is not None:
            _check_numbers(logit_bias=logit_bias)
        for name, channels in (
            ("clip_mean", clip_mean),
            ("clip_std", clip_std),
        ):
            _check_channels(name, channels)
        for name, described in (
            ("clip_config", clip_config),
            ("proposer_config", proposer_config),
            ("system_config", system_config),
            ("refinements", refinements),
        ):
            if described is not None and not isinstance(described, dict):
                raise MasqclipError(f"{name} is a {type(described).__name__}; it is a dictionary")
        if query_start not in ("clip", "random"):
            raise MasqclipError(f"query_start is {query_start!r}; it is 'clip' or 'random'")
        if own_projections not in OWN_PROJECTIONS:
            raise MasqclipError(
                f"own_projections is {str(own_projections)[:40]!r}; it is one of "
                f"{', '.join(OWN_PROJECTIONS)}"
            )
        if clip_input not in ("stretch", "aspect"):
            raise MasqclipError(f"clip_input is {clip_input!r}; it is 'stretch' or 'aspect'")
        if clip_resample not in ("bicubic", "bilinear"):
            raise MasqclipError(
                f"clip_resample is {str(clip_resample)[:40]!r}; it is 'bicubic' or 'bilinear'"
            )
        if scores not in ("softmax", "sigmoid"):
            raise MasqclipError(f"scores is {str(scores)[:40]!r}; it is 'softmax' or 'sigmoid'")
        if scores == "sigmoid" and logit_bias is None:
            raise MasqclipError(
                "scores is 'sigmoid', and there is no logit_bias: a CLIP without one is asked with "
                "'softmax'"
            )
        self.clip_config = clip_config or CLIPConfig().to_dict()
        self.proposer_type = proposer_type
        self.proposer_config = proposer_config or {}
        self.query_start = query_start
        self.own_projections = own_projections
        self.clip_input = clip_input
        self.shortest_edge = shortest_edge
        self.longest_edge = longest_edge
        self.size_divisor = size_divisor
        self.pixel_mean = tuple(pixel_mean)
        self.pixel_std = tuple(pixel_std)
        self.clip_mean = tuple(clip_mean)
        self.clip_std = tuple(clip_std)
        self.clip_resample = clip_resample
        self.logit_scale = logit_scale
        self.logit_bias = logit_bias
        self.scores = scores
        self.object_threshold = object_threshold
        self.overlap_threshold = overlap_threshold
        self.system = system
        self.system_config = system_config or {}
        self.refinements = Refinements.read(refinements).changed
        self.tuned_names = _names(tuned_names)
        super().__init__(**kwargs)


def check_pictures(*, pixel_mean: Any, pixel_std: Any, **edges: Any) -> None:
    """Refuse settings that no proposer can see pictures by.

    Args:
        pixel_mean, pixel_std: as in `MasQClipConfig`.
        edges: ``shortest_edge``, ``longest_edge`` and ``size_divisor``.

    Raises:
        MasqclipError: one is out of its bounds; the message names it.
    """
    _check_numbers(**edges)
    _check_channels("pixel_mean", pixel_mean)
    _check_channels("pixel_std", pixel_std)


def _check_numbers(**settings: Any) -> None:
    for name, value in settings.items():
        least, most, kind = _BOUNDS[name]
        right = isinstance(value, int if kind is int else (int, float))
        if isinstance(value, bool) or not right or not least <= value <= most:
            number = "a whole number" if kind is int else "a number"
            raise MasqclipError(
                f"{name} is {str(value)[:40]}; it is {number} from {least:g} to {most:g}"
            )


def _names(given: Any) -> list[str]:
    """Names, each of a usual length."""
    names = [] if given is None else given
    if not isinstance(names, list) or not all(
        isinstance(name, str) and len(name) <= _LONGEST_NAME for name in names
    ):
        raise MasqclipError(f"tuned_names is {str(given)[:60]}; it is a list of names")
    return names


def _check_channels(name: str, channels: Any) -> None:
    """Three numbers, none of them a divisor of zero."""
    least = 1e-6 if name.endswith("std") else -_LARGEST_CHANNEL
    if (
        not isinstance(channels, (list, tuple))
        or len(channels) != 3
        or not all(isinstance(n, (int, float)) for n in channels)
        or not all(least <= n <= _LARGEST_CHANNEL for n in channels)
    ):
        raise MasqclipError(
            f"{name} is {str(channels)[:60]}; it is three numbers, for red, green and blue"
            + (", above zero" if least > 0 else "")
        )
