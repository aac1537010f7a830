"""For every entry of the registry a tiny random model in that repository's own layout.

What is copied from the repositories is what has gone wrong with them: which files of weights lie
beside one another, configurations of several generations (``*_config_dict``, end tokens, integer
sizes), names that older versions wrote, half precision, shards, ``position_ids``, and the image
processor's file. Sizes are tiny, and shapes are those of the architecture.
"""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save as safetensors_bytes
from torch import Tensor
from transformers import CLIPConfig, CLIPModel

from masqclip.hub.registry import NamedModel
from masqclip.towers.tokenizer import load_tokenizer
from tower_recipe import weights

Files = dict[str, bytes]

TOWERS = Path(__file__).parents[1] / "data" / "towers"

OPENAI = {"image_mean": [0.48145466, 0.4578275, 0.40821073],
          "image_std": [0.26862954, 0.26130258, 0.27577711]}  # fmt: skip
HALVES = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
IMAGENET = {"image_mean": [0.48500001430511475, 0.4560000002384186, 0.4059999883174896],
            "image_std": [0.2290000021457672, 0.2239999920129776, 0.22499999403953552]}  # fmt: skip


def layout(model: NamedModel, families: dict[str, Callable[[], Any]]) -> Files:
    """The files of a repository."""
    if model.name.startswith(("eva02-", "pe-")):
        return _timm_clip(model)
    return _clip(model) if model.kind == "clip" else _proposer(model, families)


def pickled(tensors: dict[str, Tensor]) -> bytes:
    """As ``pytorch_model.bin``."""
    buffer = io.BytesIO()
    torch.save(tensors, buffer)
    return buffer.getvalue()


def sharded(tensors: dict[str, Tensor], *, stem: str = "model", count: int = 3) -> Files:
    """Tensors in several safetensors files, with their index."""
    names = list(tensors)
    files: Files = {}
    table = {}
    for part in range(count):
        file = f"{stem}-{part + 1:05d}-of-{count:05d}.safetensors"
        some = {name: tensors[name].contiguous() for name in names[part::count]}
        files[file] = safetensors_bytes(some, metadata={"format": "pt"})
        table |= dict.fromkeys(some, file)
    index = {"metadata": {"total_size": 1}, "weight_map": table}
    return files | {f"{stem}.safetensors.index.json": json.dumps(index).encode()}


def clip_model(seed: int = 0, **vision: Any) -> CLIPModel:
    """A CLIP that reads OpenAI's tokens."""
    torch.manual_seed(seed)
    tower = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
             "num_attention_heads": 2}  # fmt: skip
    return CLIPModel(
        CLIPConfig(
            vision_config=tower | {"image_size": 32, "patch_size": 8} | vision,
            text_config=tower | {"vocab_size": 49_408, "eos_token_id": 49_407},
            projection_dim=16,
        )
    )


@cache
def tokenizer_files() -> Files:
    """OpenAI's tokenizer as repositories have it: tables and a whole one."""
    with tempfile.TemporaryDirectory() as folder:
        load_tokenizer().save_pretrained(folder)
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def _clip(model: NamedModel) -> Files:
    clip = clip_model()
    tensors = {name: tensor.contiguous() for name, tensor in clip.state_dict().items()}
    old = model.name.startswith(("clip-", "metaclip"))
    config = _old_clip_config(clip.config) if old else clip.config.to_dict()
    normal = HALVES if model.name == "laion-l14" else OPENAI
    size = clip.config.vision_config.image_size
    pictures = normal | {
        "crop_size": size, "do_center_crop": True, "do_normalize": True, "do_resize": True,
        "feature_extractor_type": "CLIPFeatureExtractor", "resample": 3, "size": size,
    }  # fmt: skip
    files = {
        "README.md": b"---\nlicense: other\n---\n" * 100,
        "config.json": json.dumps(config).encode(),
        "preprocessor_config.json": json.dumps(pictures).encode(),
        **tokenizer_files(),
    }
    whole = tensors | {
        "text_model.embeddings.position_ids": torch.arange(77)[None],
        "vision_model.embeddings.position_ids": torch.arange(17)[None],
    }
    if model.weights.endswith(".bin"):
        half = {name: t.half() if t.is_floating_point() else t for name, t in whole.items()}
        files["pytorch_model.bin"] = pickled(half if "datacomp" in model.name else whole)
        files["tf_model.h5"] = b"h" * 9_000
    else:
        files["model.safetensors"] = safetensors_bytes(tensors, metadata={"format": "pt"})
        files["pytorch_model.bin"] = pickled(whole)
        files["flax_model.msgpack"] = b"f" * 9_000
        if model.name == "metaclip-h14":
            del files["model.safetensors"]
            files |= sharded(tensors)
    if "laion" in model.repository or "apple" in model.repository:
        files["open_clip_config.json"] = json.dumps(
            {"model_cfg": {"embed_dim": 16, "vision_cfg": {}, "text_cfg": {}}}
        ).encode()
        files["open_clip_pytorch_model.bin"] = b"o" * 9_000
    return files


def _timm_clip(model: NamedModel) -> Files:
    """As open_clip's library writes one with a tower of timm's: no file is transformers'."""
    eva02 = model.name.startswith("eva02-")
    with safe_open(TOWERS / ("eva02.safetensors" if eva02 else "pe.safetensors"), "pt") as file:
        shapes = json.loads(file.metadata()["shapes"])
    # Twice as wide as those that were recorded, for a head of the published width; and all tokens.
    wide = {name: [2 * n if n % 32 == 0 or n == 85 else n for n in shape]
            for name, shape in shapes.items()}  # fmt: skip
    wide["text.token_embedding.weight"] = [49_408, 64]
    tensors = weights(wide)
    if eva02:
        tensors = {name: tensor.half() for name, tensor in tensors.items()}
    tower = "eva02_base_patch16_clip_224" if eva02 else "vit_pe_core_base_patch16_224"
    normal = OPENAI if eva02 else HALVES
    config = {
        "model_cfg": {
            "embed_dim": 24,
            "vision_cfg": {
                "image_size": 32, "timm_model_name": tower, "timm_model_pretrained": False,
                "timm_pool": "token" if eva02 else "map", "timm_proj": None,
            },
            "text_cfg": {
                "context_length": 12, "vocab_size": 49_408, "width": 64, "heads": 1, "layers": 2,
            },
            "custom_text": True,
        },
        "preprocess_cfg": {
            "mean": normal["image_mean"], "std": normal["image_std"],
            "interpolation": "bicubic" if eva02 else "bilinear",
            "resize_mode": "shortest" if eva02 else "squash",
        },
    }  # fmt: skip
    return {
        "README.md": b"---\nlicense: mit\n---\n",
        "open_clip_config.json": json.dumps(config).encode(),
        "open_clip_model.safetensors": safetensors_bytes(tensors),
        "open_clip_pytorch_model.bin": b"o" * 9_000,
        **tokenizer_files(),
    }


def _old_clip_config(config: CLIPConfig) -> dict[str, Any]:
    """As the first versions wrote it: both towers twice, and an end token that is none."""
    towers = {}
    for name in ("text_config", "vision_config"):
        tower = getattr(config, name).to_dict()
        if name == "text_config":
            tower |= {"eos_token_id": 2, "bos_token_id": 0, "pad_token_id": 1}
        towers[name] = {"model_type": tower["model_type"], "vocab_size": 49_408} | tower
        towers[f"{name}_dict"] = tower
    return {
        "architectures": ["CLIPModel"], "initializer_factor": 1.0,
        "logit_scale_init_value": 2.6592, "model_type": "clip", "projection_dim": 16,
        "torch_dtype": "float32", "transformers_version": None, **towers,
    }  # fmt: skip


def _proposer(model: NamedModel, families: dict[str, Callable[[], Any]]) -> Files:
    torch.manual_seed(1)
    family = next(
        name for name in families
        if name.split("-")[0] == model.name.split("-")[0] and not name.endswith("resnet")
    )  # fmt: skip
    segmenter = families[family]()
    with tempfile.TemporaryDirectory() as folder:
        segmenter.save_pretrained(folder)
        files = {path.name: path.read_bytes() for path in Path(folder).iterdir()}
    config = json.loads(files["config.json"])
    if model.labels is not None:  # as many names as the published one has
        config["id2label"] = {str(i): f"class {i}" for i in range(model.labels)}
        config["label2id"] = {f"class {i}": i for i in range(model.labels)}
        files |= _with_labels(segmenter, model.labels)
    files["config.json"] = json.dumps(config).encode()
    files["preprocessor_config.json"] = json.dumps(_pictures(model, config)).encode()
    # Copies of the weights in formats that are not read: EoMT's are the authors' own names.
    files["pytorch_model.bin"] = pickled({"network.encoder.weight": torch.zeros(3)})
    files["model.fp16.safetensors"] = safetensors_bytes({"x": torch.zeros(3_000).half()})
    return files


def _with_labels(segmenter: Any, labels: int) -> Files:
    torch.manual_seed(1)
    config = segmenter.config
    config.id2label = {i: f"class {i}" for i in range(labels)}
    whole = type(segmenter)(config)
    with tempfile.TemporaryDirectory() as folder:
        whole.save_pretrained(folder)
        return {"model.safetensors": (Path(folder) / "model.safetensors").read_bytes()}


def _pictures(model: NamedModel, config: dict[str, Any]) -> dict[str, Any]:
    """The image processor's file of a family, as its repositories have it."""
    common = IMAGENET | {"do_normalize": True, "do_rescale": True, "do_resize": True,
                         "rescale_factor": 0.00392156862745098, "resample": 2}  # fmt: skip
    if model.name.startswith("mask2former"):
        size = {"height": 384, "width": 384}
        return common | {"size": size, "_max_size": 1333, "size_divisor": 32, "num_labels": 133,
                         "ignore_index": 255, "reduce_labels": False,
                         "image_processor_type": "Mask2FormerImageProcessor"}  # fmt: skip
    if model.name.startswith("maskformer"):
        old = {key: value for key, value in common.items() if "rescale" not in key}
        return old | {"size": 800, "max_size": 1333, "size_divisibility": 32,
                      "feature_extractor_type": "MaskFormerFeatureExtractor"}  # fmt: skip
    if model.name.startswith("oneformer"):
        size = {"shortest_edge": 800, "longest_edge": 1333}
        return common | {"size": size, "_max_size": 1333, "num_text": 134, "repo_path": "x/y",
                         "class_info_file": "coco_panoptic.json", "metadata": {},
                         "image_processor_type": "OneFormerImageProcessor"}  # fmt: skip
    if model.name.startswith("eomt"):
        side = config["image_size"]
        return common | {"size": {"longest_edge": side, "shortest_edge": side}, "do_pad": True,
                         "do_split_image": False,
                         "image_processor_type": "EomtImageProcessorFast"}  # fmt: skip
    side = config["vision_config"]["image_size"]
    return common | {"size": {"longest_edge": side}, "do_convert_rgb": True, "do_pad": True,
                     "pad_size": {"height": side, "width": side},
                     "image_processor_type": "SamImageProcessor",
                     "processor_class": "SamProcessor"}  # fmt: skip
