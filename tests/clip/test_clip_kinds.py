"""Which CLIPs are loaded, in which layouts, and how others are refused: by name, and in time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from clip_folders import small_clip, write_open_clip, write_transformers
from safetensors.torch import save_file
from transformers import CLIPModel, SiglipConfig, SiglipModel

from masqclip import MasqclipError
from masqclip.hub.kinds import check_kind
from masqclip.towers.loading import load_clip, load_clip_and_tokenizer
from masqclip.towers.tokenizer import load_tokenizer


def refused(folder: Path) -> str:
    with pytest.raises(MasqclipError) as caught:
        load_clip(folder)
    message = str(caught.value)
    assert "\n" not in message
    assert "above" not in message  # what is shown to nobody
    return message


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("chinese_clip", "it is a Chinese-CLIP (model_type 'chinese_clip')"),
        ("altclip", "it is an AltCLIP (model_type 'altclip')"),
        ("clipseg", "it is a CLIPSeg (model_type 'clipseg')"),
        ("mobileclip", "it is a MobileCLIP (model_type 'mobileclip')"),
        ("clip_vision_model", "it is a vision tower of a CLIP alone"),
        ("mask2former", "it is a Mask2Former (model_type 'mask2former')"),
        ("x" * 100, "it is a xxxxx"),
    ],
)
def test_other_kinds_are_refused_by_name(tmp_path: Path, kind: str, said: str) -> None:
    """A Chinese-CLIP has a CLIP's towers: it would load, and its words would mean nothing."""
    small_clip().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text()) | {"model_type": kind}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert said in refused(tmp_path)
    (tmp_path / "model.safetensors").unlink()  # no weight is looked at
    message = refused(tmp_path)
    assert said in message
    assert "use a CLIP of OpenAI, LAION, MetaCLIP or DFN" in message


def test_a_siglip_of_any_size_names_those_of_one_size(tmp_path: Path) -> None:
    """It reads patches with a map of which are there, and its published models are twins of
    others that do not."""
    (tmp_path / "config.json").write_text('{"model_type": "siglip2"}')
    said = refused(tmp_path)
    assert "it is a SigLIP 2 of any picture size (NaFlex) (model_type 'siglip2')" in said
    assert "use a SigLIP 2 of one picture size, such as google/siglip2-large-patch16-384" in said
    with pytest.raises(MasqclipError, match="use a SigLIP 2 of one picture size"):
        check_kind(tmp_path, what="CLIP", name="google/siglip2-base-patch16-naflex")


def test_a_whole_model_is_no_clip(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "masqclip"}')
    assert "use it as --model" in refused(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    assert "its config.json has no model_type" in refused(tmp_path)
    (tmp_path / "config.json").unlink()
    assert "there is no config.json in it" in refused(tmp_path)


def test_a_siglip_that_says_it_is_a_clip(tmp_path: Path) -> None:
    """Nothing refers to a report that nobody sees."""
    tower = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2,
             "num_attention_heads": 2}  # fmt: skip
    config = SiglipConfig(
        text_config=tower | {"vocab_size": 100, "bos_token_id": 1, "eos_token_id": 2},
        vision_config=tower | {"image_size": 32, "patch_size": 8},
    )
    SiglipModel(config).save_pretrained(tmp_path)
    assert load_clip(tmp_path).config.model_type == "siglip"
    document = json.loads((tmp_path / "config.json").read_text()) | {"model_type": "clip"}
    (tmp_path / "config.json").write_text(json.dumps(document))
    assert "the tensor 'logit_scale' is (1,)" in refused(tmp_path)


def test_tensors_of_other_shapes_under_earlier_names(tmp_path: Path) -> None:
    """Those that transformers renames while it loads are told by us, too."""
    write_transformers(tmp_path)
    weights = {name: t.clone() for name, t in small_clip().state_dict().items()}
    name = "text_model.final_layer_norm"
    for kind, old in (("weight", "gamma"), ("bias", "beta")):
        weights[f"{name}.{old}"] = torch.zeros(7)
        del weights[f"{name}.{kind}"]
    save_file(weights, tmp_path / "model.safetensors")
    assert "tensor" in refused(tmp_path)


@pytest.mark.parametrize("kind", ["XLMRobertaTokenizer", "BertTokenizerFast", "SiglipTokenizer", 3])
def test_tokenizers_of_other_classes(tmp_path: Path, kind: Any) -> None:
    write_transformers(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    file = tmp_path / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"tokenizer_class": kind}))
    message = refused(tmp_path)
    assert f"is of the class {str(kind)!r}, which is not supported" in message
    with pytest.raises(MasqclipError, match="which is not supported"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("kind", ["CLIPTokenizer", "CLIPTokenizerFast", None])
def test_tokenizers_of_clips(tmp_path: Path, kind: str | None) -> None:
    write_transformers(tmp_path)
    file = tmp_path / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"tokenizer_class": kind}))
    clip, tokenizer = load_clip_and_tokenizer(tmp_path)
    assert len(tokenizer) == clip.config.text_config.vocab_size == 49_408


@pytest.mark.parametrize(
    ("text", "tokenizer", "said"),
    [
        ({"eos_token_id": 49_406}, True, "ends a text with token 49407 .* looks for 49406"),
        ({"vocab_size": 60_000}, False, "has 60000 tokens, and OpenAI's tokenizer 49408"),
        ({"vocab_size": 49_409, "eos_token_id": 2}, False, "has 49409 tokens, and OpenAI's"),
        ({"vocab_size": 40_000, "eos_token_id": 2}, True, "49408 tokens and the CLIP's text"),
    ],
)
def test_tokenizers_of_other_towers(
    tmp_path: Path, text: dict[str, int], tokenizer: bool, said: str
) -> None:
    write_transformers(tmp_path, tokenizer=tokenizer, **text)
    (tmp_path / "model.safetensors").write_text("not looked at")
    with pytest.raises(MasqclipError, match=f"no CLIP can be loaded from .*{said}"):
        load_clip_and_tokenizer(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        {},
        {"eos_token_id": 2},
        {"vocab_size": 50_000},
        {"vocab_size": 50_000, "eos_token_id": 2},
    ],
)
def test_towers_that_fit(tmp_path: Path, text: dict[str, int]) -> None:
    """A table of tokens that is longer than the tokenizer is padded; 2 is what old files say."""
    write_transformers(tmp_path, **text)
    assert isinstance(load_clip_and_tokenizer(tmp_path)[0], CLIPModel)


# open_clip


@pytest.mark.parametrize("pickled", [False, True])
@pytest.mark.parametrize("prefix", ["", "text."])
def test_open_clips_folder_is_a_clip(tmp_path: Path, pickled: bool, prefix: str) -> None:
    own = write_open_clip(
        tmp_path, pickled=pickled, prefix=prefix, model_cfg={"custom_text": bool(prefix)}
    )
    clip, tokenizer = load_clip_and_tokenizer(tmp_path)
    assert clip.config.vision_config.hidden_act == clip.config.text_config.hidden_act == "gelu"
    assert not clip.training
    for name, tensor in own.state_dict().items():
        assert torch.equal(clip.state_dict()[name], tensor), name
    pixels = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    same = CLIPModel(clip.config).eval()
    same.load_state_dict(own.state_dict())
    with torch.no_grad():
        ids = torch.tensor([tokenizer("a cat")["input_ids"]])
        ours, theirs = (model(input_ids=ids, pixel_values=pixels) for model in (clip, same))
    assert torch.equal(ours.logits_per_image, theirs.logits_per_image)


def test_what_open_clips_configuration_tells(tmp_path: Path) -> None:
    write_open_clip(
        tmp_path,
        model_cfg={"quick_gelu": True, "init_logit_scale": 2.0},
        vision_cfg={"head_width": 32, "patch_dropout": 0.5, "pool_type": "tok", "no_ln_pre": False},
        text_cfg={"heads": 8, "pool_type": "argmax", "hf_tokenizer_name": None},
    )
    config = load_clip(tmp_path).config
    assert config.vision_config.hidden_act == config.text_config.hidden_act == "quick_gelu"
    assert config.vision_config.num_attention_heads == 4
    assert config.text_config.num_attention_heads == 8
    assert config.text_config.eos_token_id == 49_407


@pytest.mark.parametrize(
    ("part", "change", "said"),
    [
        ("vision_cfg", {"timm_model_name": "vit_medium"}, "timm_model_name = 'vit_medium'"),
        ("vision_cfg", {"no_ln_pre": True}, "no_ln_pre = 'True' .vision_cfg."),
        ("vision_cfg", {"pool_type": "avg"}, "pool_type = 'avg' .vision_cfg."),
        ("vision_cfg", {"norm_kwargs": {"eps": 1e-6}}, "norm_kwargs"),
        ("vision_cfg", {"pos_embed_type": "sin_cos_2d"}, "pos_embed_type"),
        ("vision_cfg", {"layers": [3, 4, 6, 3]}, "describes a ResNet CLIP"),
        ("vision_cfg", {"head_width": 0}, "head_width = 0: it is a whole number"),
        ("vision_cfg", {"width": 64}, "towers are 64 and 128 wide, and the weights .* 128 and 128"),
        ("text_cfg", {"hf_model_name": "roberta-base"}, "hf_model_name = 'roberta-base'"),
        ("text_cfg", {"hf_tokenizer_name": "bert-base-uncased"}, "hf_tokenizer_name"),
        ("text_cfg", {"no_causal_mask": True}, "no_causal_mask = 'True' .text_cfg."),
        ("text_cfg", {"pool_type": "last"}, "pool_type = 'last' .text_cfg."),
        ("text_cfg", {"heads": "8"}, "heads = 8: it is a whole number"),
        ("model_cfg", {"quick_gelu": "no"}, "quick_gelu = 'no': it is true or false"),
        ("model_cfg", {"multimodal_cfg": {"width": 8}}, "multimodal_cfg"),
        ("model_cfg", {"init_logit_bias": -10}, "init_logit_bias"),
        ("model_cfg", {"vision_cfg": None}, "there is no vision_cfg in it"),
    ],
)
def test_other_towers_of_open_clip(
    tmp_path: Path, part: str, change: dict[str, Any], said: str
) -> None:
    write_open_clip(tmp_path, **{part: change})
    with pytest.raises(MasqclipError, match=said):
        load_clip(tmp_path)


def test_transformers_weights_go_before_open_clips(tmp_path: Path) -> None:
    """LAION's repositories hold both."""
    write_open_clip(tmp_path, vision_cfg={"timm_model_name": "what is not read"})
    write_transformers(tmp_path)
    assert load_clip(tmp_path).config.vision_config.hidden_act == "quick_gelu"


def test_damaged_folders_of_open_clip(tmp_path: Path) -> None:
    write_open_clip(tmp_path)
    (tmp_path / "open_clip_config.json").write_text("[]")
    assert "is no object of settings" in refused(tmp_path)
    (tmp_path / "open_clip_config.json").write_text("{}")
    assert "there is no model_cfg in it" in refused(tmp_path)
    write_open_clip(tmp_path)
    (tmp_path / "open_clip_model.safetensors").write_bytes(b"x")
    assert "no CLIP can be loaded" in refused(tmp_path)
    (tmp_path / "open_clip_model.safetensors").unlink()
    assert "there is no config.json in it" in refused(tmp_path)
