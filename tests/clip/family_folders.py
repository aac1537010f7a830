"""Small random models of every family in transformers' layout, with tokenizers made on the spot."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import (
    MetaClip2Config,
    MetaClip2Model,
    SiglipConfig,
    SiglipModel,
    Tipsv2Config,
    Tipsv2Model,
)

FAMILIES = ("siglip", "siglip2", "metaclip_2", "tipsv2")
_TEXT = (
    "a photo of the cat dog on grass red car traffic light person tree house bicycle This is "
    "straße naïve über кот 狗 t-shirt people sit in front zebra kayak lamp quilt vw xylophone jug"
)
TOWER: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
_SPECIAL = {
    "siglip": ["<pad>", "</s>", "<unk>"],
    "siglip2": ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"],
    "metaclip_2": ["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
    "tipsv2": ["<pad>", "<unk>"],
}
_CLASS = {
    "siglip": "SiglipTokenizer",
    "siglip2": "GemmaTokenizer",
    "metaclip_2": "XLMRobertaTokenizer",
    "tipsv2": "Tipsv2Tokenizer",
}


def small_model(kind: str, seed: int = 0, **vision: Any) -> Any:
    """A model of random weights, none of which is such a one that a fault would not show."""
    torch.manual_seed(seed)
    mlp = {"intermediate_size": 48}
    picture = TOWER | {"image_size": 32, "patch_size": 8}
    text = TOWER | mlp | {"vocab_size": 400, "max_position_embeddings": 64}
    model: Any
    if kind in ("siglip", "siglip2"):
        model = SiglipModel(SiglipConfig(text_config=text, vision_config=picture | mlp | vision))
    elif kind == "metaclip_2":
        text |= {"eos_token_id": 2, "bos_token_id": 0, "pad_token_id": 1}
        model = MetaClip2Model(
            MetaClip2Config(
                text_config=text, vision_config=picture | mlp | vision, projection_dim=16
            )
        )
    else:
        picture |= {"num_register_tokens": 1, "mlp_ratio": 2}
        model = Tipsv2Model(Tipsv2Config(text_config=text, vision_config=picture | vision))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name not in ("logit_scale", "temperature"):
                parameter.add_(0.2 * torch.randn_like(parameter))
        if hasattr(model, "logit_bias"):
            model.logit_scale.fill_(4.7)
            model.logit_bias.fill_(-12.0)
    return model.eval()


def write_tokenizer(folder: Path, kind: str) -> None:
    """A ``tokenizer.json`` of the family's kind, learned from a few hundred lines."""
    chance = random.Random(0)
    lines = [" ".join(chance.choices(_TEXT.split(), k=6)).lower() for _ in range(300)]
    special = _SPECIAL[kind]
    tokenizer: Any
    if kind in ("siglip", "metaclip_2"):
        tokenizer = Tokenizer(models.Unigram())
        trainer: Any = trainers.UnigramTrainer(
            vocab_size=200, special_tokens=special, unk_token="<unk>", show_progress=False
        )
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    else:
        tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
        letters = [f"<0x{byte:02X}>" for byte in range(256)]
        trainer = trainers.BpeTrainer(
            vocab_size=390, special_tokens=[*special, *letters], show_progress=False
        )
        tokenizer.normalizer = normalizers.Replace(" ", "▁")
        tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
        if kind == "tipsv2":
            tokenizer.normalizer = normalizers.Lowercase()
            tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.train_from_iterator(lines, trainer)
    folder.mkdir(exist_ok=True)
    document = json.loads(tokenizer.to_str())
    document["added_tokens"] = [e for e in document["added_tokens"] if e["content"] in special]
    (folder / "tokenizer.json").write_text(json.dumps(document))
    names = {"tokenizer_class": _CLASS[kind]}
    if kind == "siglip":
        names["pad_token"] = "</s>"
    (folder / "tokenizer_config.json").write_text(json.dumps(names))


def write_family(folder: Path, kind: str, seed: int = 0, **vision: Any) -> Any:
    """The folder of a small model, with its tokenizer and what prepares its pictures."""
    model = small_model(kind, seed, **vision)
    model.save_pretrained(folder)
    write_tokenizer(folder, kind)
    told: dict[str, Any] = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "resample": 3}
    if kind == "siglip2":
        told["resample"] = 2
    if kind == "tipsv2":
        told = {"do_normalize": False, "resample": 2}
    (folder / "preprocessor_config.json").write_text(json.dumps(told))
    return model
