"""Folders of small CLIPs, in the layouts that the world's libraries write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPConfig, CLIPModel

from masqclip.towers.tokenizer import load_tokenizer

TOWER = {"hidden_size": 128, "intermediate_size": 64, "num_hidden_layers": 2,
         "num_attention_heads": 2}  # fmt: skip


def small_clip(**text: Any) -> CLIPModel:
    """A CLIP of random weights, with OpenAI's tokens."""
    torch.manual_seed(0)
    config = CLIPConfig(
        vision_config=TOWER | {"image_size": 32, "patch_size": 8},
        text_config=TOWER | {"vocab_size": 49_408, "eos_token_id": 49_407} | text,
        projection_dim=16,
    )
    return CLIPModel(config).eval()


def write_transformers(folder: Path, *, tokenizer: bool = True, **text: Any) -> CLIPModel:
    """A folder in transformers' layout."""
    clip = small_clip(**text)
    clip.save_pretrained(folder)
    if tokenizer:
        load_tokenizer().save_pretrained(folder)
    return clip


def openai_names(clip: CLIPModel, *, prefix: str = "") -> dict[str, Tensor]:
    """The weights of a CLIP under OpenAI's names, which open_clip uses too.

    Args:
        clip: of transformers.
        prefix: what stands before the text tower's names.
    """
    given = {name: tensor.clone() for name, tensor in clip.state_dict().items()}
    found: dict[str, Tensor] = {"logit_scale": given["logit_scale"]}
    for tower, before in (("vision_model", "visual."), ("text_model", prefix)):
        layers = sorted({name.split(".")[3] for name in given if f"{tower}.encoder" in name})
        for layer in layers:
            source, target = (
                f"{tower}.encoder.layers.{layer}.",
                f"{before}transformer.resblocks.{layer}.",
            )
            for kind in ("weight", "bias"):
                parts = [given[f"{source}self_attn.{c}_proj.{kind}"] for c in "qkv"]
                found[f"{target}attn.in_proj_{kind}"] = torch.cat(parts)
                for ours, theirs in (
                    ("self_attn.out_proj", "attn.out_proj"), ("layer_norm1", "ln_1"),
                    ("layer_norm2", "ln_2"), ("mlp.fc1", "mlp.c_fc"), ("mlp.fc2", "mlp.c_proj"),
                ):  # fmt: skip
                    found[f"{target}{theirs}.{kind}"] = given[f"{source}{ours}.{kind}"]
    vision, text = "vision_model.", "text_model."
    for kind in ("weight", "bias"):
        found[f"visual.ln_pre.{kind}"] = given[f"{vision}pre_layrnorm.{kind}"]
        found[f"visual.ln_post.{kind}"] = given[f"{vision}post_layernorm.{kind}"]
        found[f"{prefix}ln_final.{kind}"] = given[f"{text}final_layer_norm.{kind}"]
    embeddings = f"{vision}embeddings."
    found["visual.class_embedding"] = given[f"{embeddings}class_embedding"]
    found["visual.conv1.weight"] = given[f"{embeddings}patch_embedding.weight"]
    found["visual.positional_embedding"] = given[f"{embeddings}position_embedding.weight"]
    found["visual.proj"] = given["visual_projection.weight"].T.contiguous()
    embeddings = f"{text}embeddings."
    found[f"{prefix}token_embedding.weight"] = given[f"{embeddings}token_embedding.weight"]
    found[f"{prefix}positional_embedding"] = given[f"{embeddings}position_embedding.weight"]
    found[f"{prefix}text_projection"] = given["text_projection.weight"].T.contiguous()
    return found


def open_clip_config(**changes: dict[str, Any]) -> dict[str, Any]:
    """What open_clip would write of `small_clip`; `changes` go into the part of that name."""
    document: dict[str, Any] = {
        "model_cfg": {
            "embed_dim": 16,
            "vision_cfg": {"image_size": 32, "layers": 2, "width": 128, "patch_size": 8},
            "text_cfg": {
                "context_length": 77, "vocab_size": 49_408, "width": 128, "heads": 2, "layers": 2,
            },
        },
        "preprocess_cfg": {"mean": [0.5, 0.4, 0.3], "std": [0.25, 0.5, 0.75]},
    }  # fmt: skip
    model = document["model_cfg"]
    places = {"model_cfg": model, "vision_cfg": model["vision_cfg"], "text_cfg": model["text_cfg"],
              "preprocess_cfg": document["preprocess_cfg"]}  # fmt: skip
    for name, change in changes.items():
        places[name].update(change)
    return document


def write_open_clip(
    folder: Path, *, pickled: bool = False, prefix: str = "", **changes: dict[str, Any]
) -> CLIPModel:
    """A folder in open_clip's layout; the same weights as `small_clip`."""
    folder.mkdir(exist_ok=True)
    clip = small_clip()
    tensors = openai_names(clip, prefix=prefix)
    if pickled:
        torch.save(tensors, folder / "open_clip_pytorch_model.bin")
    else:
        save_file(tensors, folder / "open_clip_model.safetensors")
    document = json.dumps(open_clip_config(**changes))
    (folder / "open_clip_config.json").write_text(document)
    return clip
