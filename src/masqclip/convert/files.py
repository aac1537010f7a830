"""A checkpoint file of anybody's to a folder that this package, or transformers, loads."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor
from transformers import (
    CLIPTokenizer,
    Mask2FormerForUniversalSegmentation,
    PreTrainedConfig,
    PreTrainedModel,
)

from masqclip.baselines.maskclip import MaskClipModel
from masqclip.convert.clip import (
    TRANSFORMERS,
    ClipOptions,
    convert_clip,
    file_normalisation,
    load_source,
    own_tokenizer,
)
from masqclip.convert.mask2former import NOT_NEEDED as LOSS_WEIGHTS
from masqclip.convert.mask2former import mask2former_to_transformers
from masqclip.convert.maskclip import frozen_tower, maskclip_to_model
from masqclip.convert.masqclip import (
    masqclip_to_model,
    published_clip,
    setting_of,
    vision_tower,
)
from masqclip.data.files import move_folder, shared, writing
from masqclip.errors import MasqclipError, is_out_of_memory
from masqclip.hub.kinds import kind_in_words
from masqclip.model import MasQClipModel
from masqclip.towers.families import family_of
from masqclip.towers.normalisation import (
    ClipNormalisation,
    write_normalisation,
)
from masqclip.towers.openai_clip import (
    NOT_NEEDED as CLIP_NOT_NEEDED,
)
from masqclip.towers.timm_clip import ROTARY_TABLE
from masqclip.weights.checkpoint import read_state_dict
from masqclip.weights.folders import check_fits
from masqclip.weights.rules import StateDict, in_float32
from masqclip.weights.tensor_files import error_line

# What begins a name in each kind of checkpoint. A whole model holds a Mask2Former too.
_KINDS = {
    "MasQCLIP": ("masqclip.",),
    "MaskCLIP": ("maskclip.",),
    "Mask2Former": ("sem_seg_head.", "backbone.stem.", "backbone.patch_embed."),
    "OpenAI CLIP": ("visual.",),
    "CLIP": TRANSFORMERS,
}
_READY = {
    "proposer.": "a model of this package",
    "model.pixel_level_module.": "a universal segmenter in transformers' format",
}


@dataclass(frozen=True)
class Conversion:
    """What was found in a checkpoint, and what became of it.

    Attributes:
        found: what it is, in a few lines.
        result: what the folder holds, and how to use it.
        model_class: what loads the folder.
        config: the folder's configuration.
        weights: its tensors.
        dropped: names that were left out -> why.
        tokenizer: that goes with it.
        normalisation: that goes with a CLIP, in a file of its own.
    """

    found: list[str]
    result: str
    model_class: type[PreTrainedModel]
    config: PreTrainedConfig
    weights: StateDict
    dropped: dict[str, str] = field(default_factory=dict)
    tokenizer: CLIPTokenizer | None = None
    normalisation: ClipNormalisation | None = None


def convert_file(
    checkpoint: str | Path,
    out: str | Path,
    *,
    clip: str | Path | None = None,
    options: ClipOptions | None = None,
) -> Conversion:
    """Convert a checkpoint file into a folder.

    Args:
        checkpoint: ``.pth``, ``.pt``, ``.pkl``, ``.bin`` or ``.safetensors``.
        out: the folder to make; it must not hold anything yet.
        clip: the CLIP that a MasQCLIP or MaskCLIP was tuned on: a file, a folder or a Hub name;
            None = the matching one of OpenAI.
        options: what shapes do not tell.

    Raises:
        MasqclipError: the file cannot be read, is no known model, a mixture, or lacks a tensor; or
            the CLIP is not the right one; or `out` is taken.
        OSError: `out` cannot be written.
    """
    folder = Path(out)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise MasqclipError(f"{str(out)!r} holds something already: give a new folder")
    conversion = convert_state_dict(
        read_state_dict(checkpoint), name=str(checkpoint), clip=clip, options=options
    )
    write_folder(conversion, folder)
    return conversion


def convert_state_dict(
    state_dict: Mapping[str, Tensor],
    *,
    name: str,
    clip: str | Path | None = None,
    options: ClipOptions | None = None,
) -> Conversion:
    """Recognise a checkpoint by its names and convert it. Arguments as in `convert_file`."""
    try:
        conversion = _recognise(state_dict, name, clip, options or ClipOptions())
    except (TypeError, ValueError, IndexError, KeyError, ArithmeticError, RuntimeError) as error:
        if isinstance(error, MasqclipError) or is_out_of_memory(error):
            raise
        raise MasqclipError(
            f"{name!r} is damaged: a tensor has another shape than its name says "
            f"({error_line(error)})"
        ) from error
    check_fits(conversion.model_class, conversion.config, conversion.weights, source=repr(name))
    return conversion


def _recognise(
    state_dict: Mapping[str, Tensor], name: str, clip: str | Path | None, options: ClipOptions
) -> Conversion:
    kinds = [
        kind
        for kind, prefixes in _KINDS.items()
        if any(tensor.startswith(prefixes) for tensor in state_dict)
    ]
    if kinds[:1] in (["MasQCLIP"], ["MaskCLIP"]) and kinds[1:] in ([], ["Mask2Former"]):
        return _whole_model(kinds[0], state_dict, clip, options)
    if len(kinds) > 1:
        raise MasqclipError(
            f"{name!r} is a mixture: it holds tensors of a {kinds[0]} "
            f"({_first(state_dict, kinds[0])!r}) and of a {kinds[1]} "
            f"({_first(state_dict, kinds[1])!r}); give one model a file"
        )
    if kinds:
        alone = (
            _mask2former(state_dict)
            if kinds == ["Mask2Former"]
            else _clip(state_dict, options, huggingface=kinds == ["CLIP"])
        )
        if kinds == ["Mask2Former"] and (options.mean or options.std or options.tokenizer):
            raise MasqclipError(
                f"--mean, --std and --tokenizer go with a CLIP, and {name!r} is {alone.found[0]}"
            )
        if clip is not None:
            raise MasqclipError(
                f"--clip goes with a MasQCLIP or MaskCLIP, and {name!r} is {alone.found[0]}"
            )
        return alone
    for prefix, what in _READY.items():
        if any(tensor.startswith(prefix) for tensor in state_dict):
            raise MasqclipError(f"{name!r} is {what}: use its folder as it is")
    raise MasqclipError(
        f"{name!r} is no MasQCLIP, MaskCLIP, Mask2Former or CLIP: its first tensor is "
        f"{next(iter(state_dict))!r}"
    )


def write_folder(conversion: Conversion, folder: Path) -> None:
    """Write a conversion as a folder: all of it appears at once, or nothing.

    Raises:
        OSError: it cannot be written; the disk is full, for instance.
    """
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Not mkdtemp, which is private: a result is for its readers.
        scratch = folder.with_name(f".{folder.name[:40]}.{secrets.token_hex(4)}")
        scratch.mkdir()
        try:
            with shared(scratch):
                _write_files(conversion, scratch)
            move_folder(scratch, folder)
        except BaseException:
            shutil.rmtree(scratch, ignore_errors=True)
            raise


def _write_files(conversion: Conversion, folder: Path) -> None:
    conversion.config.save_pretrained(folder)
    save_file(conversion.weights, folder / "model.safetensors", metadata={"format": "pt"})
    if conversion.tokenizer is not None:
        conversion.tokenizer.save_pretrained(folder)
    if conversion.normalisation is not None:
        image_size = conversion.config.vision_config.image_size
        write_normalisation(folder, conversion.normalisation, image_size)


def _whole_model(
    kind: str, state_dict: Mapping[str, Tensor], clip: str | Path | None, options: ClipOptions
) -> Conversion:
    """A MasQCLIP or a MaskCLIP, with the CLIP that it was tuned on."""
    ours = kind == "MasQCLIP"
    tower = (vision_tower if ours else frozen_tower)(state_dict, heads=options.vision_heads)
    source = clip or published_clip(tower)
    sizes = tower.config
    if source is None:
        raise MasqclipError(
            f"no CLIP of OpenAI has a vision tower of width {sizes.hidden_size} and "
            f"{sizes.num_hidden_layers} blocks: name the CLIP that this {kind} was tuned on "
            "(--clip)"
        )
    clip_config, clip_weights, tokenizer, scale = load_source(source, options)
    config, weights = (masqclip_to_model if ours else maskclip_to_model)(
        state_dict, clip_config, clip_weights, heads=options.vision_heads
    )
    config.clip_mean, config.clip_std = scale["clip_mean"], scale["clip_std"]
    what = setting_of(state_dict).name if ours else "a proposer without object scores"
    found = [
        f"a {kind} of the authors: {what}",
        _describe_mask2former(config.proposer_config),
        f"CLIP vision tower: width {sizes.hidden_size}, {sizes.num_hidden_layers} blocks, patch "
        f"{sizes.patch_size}, {sizes.image_size} pixels; the same, bit by bit, as in {source}",
    ]
    return Conversion(
        found=found,
        result="a whole model: masqclip segment --model FOLDER",
        model_class=MasQClipModel if ours else MaskClipModel,
        config=config,
        weights=weights,
        dropped=_dropped(state_dict),
        tokenizer=tokenizer,
    )


def _mask2former(state_dict: Mapping[str, Tensor]) -> Conversion:
    config, weights = mask2former_to_transformers(state_dict)
    labels = config.num_labels
    what = "class-agnostic: a teacher or student" if labels == 1 else f"{labels} classes"
    return Conversion(
        found=[f"a Mask2Former of detectron2, {what}", _describe_mask2former(config.to_dict())],
        result="a proposer: masqclip segment --clip CLIP --proposer FOLDER",
        model_class=Mask2FormerForUniversalSegmentation,
        config=config,
        weights=in_float32(weights),
        dropped=_dropped(state_dict),
    )


def _clip(state_dict: Mapping[str, Tensor], options: ClipOptions, huggingface: bool) -> Conversion:
    config, weights = convert_clip(state_dict, options, huggingface)
    tokenizer = own_tokenizer(config, options)
    vision, text = config.vision_config, config.text_config
    plain = config.model_type == "clip"
    layout = "transformers'" if huggingface else "OpenAI's (or open_clip's)"
    what = f"a CLIP with {layout} names" if plain else kind_in_words(config.model_type)
    activation = (
        f"activation {vision.hidden_act} (LAION's CLIPs need --activation gelu), " if plain else ""
    )
    return Conversion(
        found=[
            f"{what}: ViT of width {vision.hidden_size}, "
            f"{vision.num_hidden_layers} blocks, patch {vision.patch_size}, {vision.image_size} "
            f"pixels; text tower of width {text.hidden_size}, {text.num_hidden_layers} blocks",
            f"not told by shapes: {vision.num_attention_heads} and {text.num_attention_heads} "
            f"attention heads, {activation}pictures' mean and deviation (--mean, --std)",
        ],
        result="a CLIP: masqclip segment --clip FOLDER --proposer PROPOSER",
        model_class=family_of(config.model_type).model_class,
        config=config,
        weights=in_float32(weights),
        dropped=_dropped(state_dict),
        tokenizer=tokenizer,
        normalisation=file_normalisation(config, options),
    )


def _describe_mask2former(config: Mapping[str, Any]) -> str:
    backbone = config["backbone_config"]
    depths = "-".join(str(depth) for depth in backbone["depths"])
    return (
        f"Mask2Former: {backbone['model_type']} backbone ({depths} blocks), "
        f"{config['encoder_layers']} pixel decoder layers, {config['decoder_layers'] - 1} decoder "
        f"layers, {config['num_queries']} queries, width {config['hidden_dim']}"
    )


def _dropped(state_dict: Mapping[str, Tensor]) -> dict[str, str]:
    reasons = dict.fromkeys(LOSS_WEIGHTS, "weights of the training loss")
    reasons |= dict.fromkeys(CLIP_NOT_NEEDED, "a count that the sizes repeat")
    tables = filter(ROTARY_TABLE.match, state_dict)
    reasons |= dict.fromkeys(tables, "a table that the sizes repeat")
    return {name: reason for name, reason in reasons.items() if name in state_dict}


def _first(state_dict: Mapping[str, Tensor], kind: str) -> str:
    return next(name for name in state_dict if name.startswith(_KINDS[kind]))
