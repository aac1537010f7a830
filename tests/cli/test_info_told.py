"""What `masqclip info` says of machines, models and names that this machine may not have."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from masqclip import hub
from masqclip.cli import info
from masqclip.cli.main import main

FACTS: dict[str, Any] = {
    "versions": {"masqclip": "9.1", "python": "3.99", "torch": "7"},
    "devices": [
        {"name": "cpu", "threads": 3, "bfloat16": False},
        {"name": "cuda:0", "model": "GPU [x]", "gigabytes": 79.6, "bfloat16": True},
        {"name": "mps"},
    ],
    "default_device": "cuda:0",
    "default_dtype": "bfloat16",
    "models": [{"name": "small", "megabytes": 2.04, "summary": "knows [b]"}],
    "vocabularies": {"words": "some [i] words"},
}


def told(capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    assert main(["info", *words]) == 0
    return [line.rstrip() for line in capsys.readouterr().out.splitlines()]


@pytest.fixture(autouse=True)
def facts(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setenv("COLUMNS", "100")
    given: dict[str, Any] = json.loads(json.dumps(FACTS))
    monkeypatch.setattr(info, "collect_facts", lambda: given)
    return given


def test_every_fact_is_told(facts: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys) == [
        "masqclip 9.1",
        "python 3.99  torch 7",
        "device cpu, 3 threads, without native bfloat16",
        "device cuda:0, GPU [x], 79.6 GB, with bfloat16",
        "device mps",
        "by default: device cuda:0, dtype bfloat16",
        "",
        "models   size",
        "small    2.0 MB   knows [b]",
        "vocabularies",
        "words          some [i] words",
    ]
    facts["versions"]["masqclip"] = "9.1"
    facts["models"] = []
    (line,) = (line for line in told(capsys) if line.startswith("none"))
    assert line.split(None, 1)[1] == "--model takes a folder or a name on the Hugging Face Hub"


def test_facts_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = told(capsys, "--json")
    assert json.loads(line) == FACTS


def test_named_models(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    models, presets = hub.named_models(), hub.presets()
    documents = json.loads(told(capsys, "--models", "--json")[0])
    assert documents == [
        *({**vars(preset), "kind": "preset"} for preset in presets),
        *(json.loads(json.dumps(vars(model))) for model in models),
    ]
    monkeypatch.setenv("COLUMNS", "80")
    lines = told(capsys, "--models")
    assert max(map(len, lines)) <= 80
    heads = [n for n, line in enumerate(lines) if line.startswith("--")]
    assert [lines[n].split()[0] for n in heads] == ["--model", "--clip", "--proposer"]
    for preset in presets:
        (at,) = (n for n, line in enumerate(lines) if line.startswith(f"{preset.name} "))
        assert heads[0] < at < heads[1]
        assert f"{preset.megabytes} MB" in lines[at]
        assert lines[at + 1] == f"    {preset.what}"
    for model in models:
        (at,) = (n for n, line in enumerate(lines) if line.startswith(f"{model.name} "))
        assert (at > heads[2]) == (model.kind == "proposer")
        assert lines[at].split("   ")[-1] == model.licence
        assert f"{model.megabytes} MB" in lines[at]
        assert [line.strip() for line in lines[at + 1 : at + 3]] == [model.what, model.repository]
    assert lines[-2].startswith("Sizes are approximate, licences those of the weights")


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("photo", {"here": "no", "download": "about 2990 MB"}),
        ("mask2former-swin-l-ade20k", {"here": "no", "kind": "proposer"}),
        ("masqclip-paper", {"here": "no"}),
        ("masqclip-mini", {"CLIP's mean": [0.48145466, 0.4578275, 0.40821073]}),
    ],
)
def test_one_model(name: str, facts: dict[str, object], capsys: pytest.CaptureFixture[str]) -> None:
    document = json.loads(told(capsys, name, "--json")[0])
    assert facts.items() <= document.items()
    lines = told(capsys, name)
    assert len(lines) == len(document)
    for line, (key, value) in zip(lines, document.items(), strict=True):
        assert line.startswith(f"{key} ")
        assert isinstance(value, list) or line.endswith(str(value))
    if "size" in document:
        assert "pixels along the shorter side" in document["size"]


def test_no_model(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["info", "fotos"]) == 2
    assert "did you mean 'photo'?" in capsys.readouterr().err
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    assert main(["info", str(tmp_path)]) == 2
    assert "is no model of this package" in capsys.readouterr().err


def test_gpus_are_told_with_their_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = SimpleNamespace(name="A GPU", total_memory=79_640_000_000)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: gpu)
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation
    )
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    found = info._devices()
    assert found[0].keys() == {"name", "threads", "bfloat16"}
    assert found[1:] == [
        {"name": f"cuda:{index}", "model": "A GPU", "gigabytes": 79.6, "bfloat16": False}
        for index in (0, 1)
    ] + [{"name": "mps"}]
