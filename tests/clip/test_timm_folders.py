"""Folders of open_clip with a tower of timm's, and files of the first names: read, or refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from recorded_towers import model_of, recorded
from safetensors.torch import save_file
from torch import Tensor

from masqclip.cli.main import main
from masqclip.errors import MasqclipError
from masqclip.hub.kinds import check_kind
from masqclip.towers.loading import load_clip, load_clip_and_tokenizer
from masqclip.towers.timm_clip import timm_clip_kind, timm_clip_to_model
from masqclip.towers.tokenizer import load_tokenizer
from tower_recipe import made

TIMM = {
    "eva02": ("eva02_base_patch16_clip_224", "token", None),
    "pe": ("vit_pe_core_base_patch16_224", "map", None),
    "pe-giant": ("vit_pe_core_gigantic_patch14_448", "map", None),
    "siglip": ("vit_base_patch16_siglip_224", "map", "none"),
}
SIGLIP_TEXT = {
    "hf_tokenizer_name": "google/siglip", "no_causal_mask": True, "proj_bias": True,
    "pool_type": "last", "norm_kwargs": {"eps": 1e-6}, "act_kwargs": {"approximate": "tanh"},
    "tokenizer_kwargs": {"clean": "canonicalize"},
}  # fmt: skip


def with_openai_tokens(given: dict[str, Tensor]) -> dict[str, Tensor]:
    """A model that has OpenAI's tokens: its table is wider, and the rest as it was."""
    name = "text.token_embedding.weight"
    name = name if name in given else name.removeprefix("text.")
    return given | {name: made(name, (49_408, given[name].shape[1]))}


def settings(name: str, **changes: dict[str, Any]) -> dict[str, Any]:
    """What open_clip would write of a recorded model."""
    tower, pool, projection = TIMM[name]
    text = {"context_length": 12, "vocab_size": 49_408, "width": 32, "heads": 2, "layers": 2}
    parts: dict[str, dict[str, Any]] = {
        "vision_cfg": {
            "image_size": 32, "timm_model_name": tower, "timm_model_pretrained": False,
            "timm_pool": pool, "timm_proj": projection,
        },
        "text_cfg": text | (SIGLIP_TEXT if name == "siglip" else {}),
    }  # fmt: skip
    model: dict[str, Any] = {"embed_dim": 24, "custom_text": True}
    model |= {"init_logit_bias": -10} if name == "siglip" else {}
    for part, change in changes.items():
        (model if part == "model_cfg" else parts[part]).update(change)
    return {"model_cfg": model | parts}


def write(folder: Path, name: str, given: dict[str, Tensor], **changes: dict[str, Any]) -> None:
    save_file(given, folder / "open_clip_model.safetensors")
    document = json.dumps(settings(name, **changes))
    (folder / "open_clip_config.json").write_text(document)


@pytest.fixture(autouse=True)
def two_heads(monkeypatch: pytest.MonkeyPatch) -> None:
    """The recorded towers have heads narrower than the published ones, which no setting tells."""
    monkeypatch.setattr("masqclip.towers.openai_clip.HEAD_WIDTH", 16)


@pytest.mark.parametrize("own_tokenizer", [False, True])
@pytest.mark.parametrize("name", ["eva02", "pe", "pe-giant"])
def test_open_clips_folders_are_read(name: str, own_tokenizer: bool, tmp_path: Path) -> None:
    given = with_openai_tokens(recorded(name)[0])
    write(tmp_path, name, given, text_cfg={"hf_tokenizer_name": "a/b"} if own_tokenizer else {})
    if own_tokenizer:
        with pytest.raises(MasqclipError, match="hf_tokenizer_name = 'a/b': put the files of that"):
            load_clip(tmp_path)
        load_tokenizer().save_pretrained(tmp_path)
    check_kind(tmp_path, what="CLIP", name="x")
    clip, tokenizer = load_clip_and_tokenizer(tmp_path)
    wanted = model_of(name, given)
    assert type(clip) is type(wanted)
    for key, value in wanted.state_dict().items():
        assert torch.equal(clip.state_dict()[key], value), key
    assert len(tokenizer) == 49_408
    assert clip.config.text_config.hidden_act == "gelu"
    assert clip.config.vision_config.num_attention_heads == 2


def test_open_clips_siglip_is_transformers(tmp_path: Path) -> None:
    given = recorded("siglip")[0]
    (tmp_path / "tokenizer.json").write_text("not looked at")
    write(tmp_path, "siglip", given)
    check_kind(tmp_path, what="CLIP", name="x")
    clip = load_clip(tmp_path)
    wanted = model_of("siglip", given)
    assert clip.config.model_type == "siglip"
    assert clip.config.text_config.hidden_act == "gelu_pytorch_tanh"
    assert clip.config.vision_config.hidden_act == "gelu"
    for key, value in wanted.state_dict().items():
        assert torch.equal(clip.state_dict()[key], value), key


@pytest.mark.parametrize(
    ("name", "part", "change", "said"),
    [
        ("eva02", "vision_cfg", {"timm_pool": "avg"}, "timm_pool = 'avg'"),
        ("eva02", "vision_cfg", {"timm_pool": None}, "timm_pool = 'None'"),
        ("eva02", "vision_cfg", {"timm_proj": "linear"}, "timm_proj = 'linear'"),
        ("eva02", "text_cfg", {"hf_model_name": "bert"}, "hf_model_name = 'bert'"),
        ("eva02", "text_cfg", {"heads": None}, "heads = None: it is a whole number"),
        ("eva02", "text_cfg", {"width": 64}, "words' tower is 64 wide, .* of 32 and 32"),
        ("eva02", "vision_cfg", {"image_size": 224}, "pictures have 224 pixels"),
        ("eva02", "model_cfg", {"quick_gelu": True}, "quick_gelu = 'True'"),
        ("pe", "vision_cfg", {"timm_model_name": TIMM["eva02"][0]}, "timm_pool = 'map'"),
        ("pe", "vision_cfg", {"timm_model_name": "naflexvit_base_patch16_siglip"}, "is a NaFlex"),
        ("pe", "vision_cfg", {"timm_model_name": "vit_base_patch16_siglip_gap_224"}, "_gap_224'"),
        ("pe", "vision_cfg", {"timm_model_name": "eva02_enormous_patch14_clip_224"}, "enormous"),
        ("pe", "vision_cfg", {"timm_model_name": "eva_giant_patch14_clip_224"}, "eva_giant"),
        ("pe", "text_cfg", {"pool_type": "last"}, "pool_type = 'last'"),
        ("siglip", "text_cfg", {"no_causal_mask": False}, "no_causal_mask = 'False'"),
        ("siglip", "text_cfg", {"pool_type": "argmax"}, "pool_type = 'argmax'"),
        ("siglip", "text_cfg", {"act_kwargs": {"approximate": "no"}}, "act_kwargs"),
        ("siglip", "text_cfg", {"norm_kwargs": {"eps": 1e-5}}, "norm_kwargs"),
        ("siglip", "vision_cfg", {"timm_proj": None}, "timm_proj = 'None'"),
        ("siglip", "text_cfg", {"tokenizer_kwargs": {"clean": "lower"}}, "tokenizer_kwargs"),
    ],
)
def test_what_computes_otherwise_is_refused(
    name: str, part: str, change: dict[str, Any], said: str, tmp_path: Path
) -> None:
    (tmp_path / "tokenizer.json").write_text("not looked at")
    write(tmp_path, name, with_openai_tokens(recorded(name)[0]), **{part: change})
    with pytest.raises(MasqclipError, match=said) as caught:
        load_clip(tmp_path)
    assert "\n" not in str(caught.value)


def test_weights_of_another_family(tmp_path: Path) -> None:
    write(tmp_path, "eva02", recorded("pe")[0])
    with pytest.raises(MasqclipError, match="beside it are those of a PE-Core"):
        load_clip(tmp_path)


# Files of the names that their authors chose


def first_eva02(given: dict[str, Tensor]) -> dict[str, Tensor]:
    """An EVA02-CLIP as it was first published, with its tables of rotary positions."""
    renamed = {
        "visual.trunk.": "visual.", "attn.q_proj.bias": "attn.q_bias", "mlp.norm.": "mlp.ffn_ln.",
        "attn.v_proj.bias": "attn.v_bias", "attn.norm.": "attn.inner_attn_ln.",
        "mlp.fc1_g.": "mlp.w1.", "mlp.fc1_x.": "mlp.w2.", "mlp.fc2.": "mlp.w3.",
    }  # fmt: skip
    found = {}
    for name, tensor in given.items():
        for ours, theirs in renamed.items():
            name = name.replace(ours, theirs)
        found[name] = tensor
    tables = ("visual.rope.freqs_cos", "visual.blocks.0.attn.rope.freqs_sin")
    return found | {name: torch.ones(16, 16) for name in tables}


def first_pe(given: dict[str, Tensor]) -> dict[str, Tensor]:
    """A PE-Core as it was first published."""
    renamed = {
        "visual.trunk.": "visual.", "text.": "", "cls_token": "class_embedding",
        "pos_embed": "positional_embedding", "patch_embed.proj.": "conv1.",
        "visual.blocks.": "visual.transformer.resblocks.", "norm_pre.": "ln_pre.",
        "visual.norm.": "visual.ln_post.", ".norm1.": ".ln_1.", ".norm2.": ".ln_2.",
        "attn.qkv.": "attn.in_proj_", "attn.proj.": "attn.out_proj.", "mlp.fc1.": "mlp.c_fc.",
        "mlp.fc2.": "mlp.c_proj.", "attn_pool.latent": "attn_pool.probe",
        "attn_pool.proj.": "attn_pool.attn.out_proj.", "attn_pool.norm.": "attn_pool.layernorm.",
    }  # fmt: skip
    found = {}
    for name, tensor in given.items():
        for ours, theirs in renamed.items():
            name = name.replace(ours, theirs)
        found[name] = tensor
    for part in ("weight", "bias"):
        pair = [found.pop(f"visual.attn_pool.{each}.{part}") for each in ("q", "kv")]
        found[f"visual.attn_pool.attn.in_proj_{part}"] = torch.cat(pair)
    for name in ("visual.class_embedding", "visual.positional_embedding"):
        if name in found:
            found[name] = found[name].flatten(0, -2).squeeze(0)
    found["visual.proj"] = found.pop("visual.head.weight").T.contiguous()
    found.pop("visual.head.bias")
    return found


@pytest.mark.parametrize("name", ["eva02", "pe", "pe-giant"])
def test_first_names_are_converted(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = with_openai_tokens(recorded(name)[0])
    if name != "eva02":
        given["visual.trunk.head.bias"] = torch.zeros(24)  # which the first files lack
    file, folder = tmp_path / "file.safetensors", tmp_path / "folder"
    save_file(first_eva02(given) if name == "eva02" else first_pe(given), file)
    assert main(["convert", str(file), str(folder)]) == 0
    said = capsys.readouterr().out
    assert ("an EVA02-CLIP" if name == "eva02" else "a PE-Core") in said
    assert ("rope.freqs_cos: a table that the sizes repeat" in said) == (name == "eva02")
    clip, tokenizer = load_clip_and_tokenizer(folder)
    for key, value in model_of(name, given).state_dict().items():
        assert torch.equal(clip.state_dict()[key], value), key
    assert len(tokenizer) == 49_408
    told = json.loads((folder / "preprocessor_config.json").read_text())
    assert (told["image_mean"] == [0.5] * 3) == (name != "eva02")


def test_other_files_are_refused_by_what_they_are() -> None:
    given = recorded("eva02")[0]
    kind = timm_clip_kind(given)
    assert kind == "eva02_clip"
    assert timm_clip_kind(["visual.class_embedding", "transformer.x"]) is None
    with pytest.raises(MasqclipError, match=r"EVA01, or EVA02-E\), which is not supported"):
        timm_clip_kind(["visual.blocks.0.attn.q_bias", "visual.cls_token"])
    with pytest.raises(MasqclipError, match="one of timm's that is not supported"):
        timm_clip_kind(["visual.trunk.stem.conv.weight"])
    for strange in ("visual.trunk.strange", "visual.head.proj.weight", "text.strange"):
        with pytest.raises(MasqclipError, match=r"unknown tensor .*(strange|head)"):
            timm_clip_to_model(kind, given | {strange: torch.ones(1)}, vision_heads=2)
    for name in given:
        if name != "logit_scale":
            less = {key: value for key, value in given.items() if key != name}
            with pytest.raises(MasqclipError):
                timm_clip_to_model(kind, less, vision_heads=2, text_heads=2)
