"""`masqclip info`: what is installed, where it would run, and which models and names it knows."""

from __future__ import annotations

import json as json_module
import platform
import sys
from dataclasses import asdict
from importlib import metadata, resources
from importlib.resources.abc import Traversable
from typing import Annotated, Any

from cyclopts import App, Parameter
from rich.table import Table
from rich.text import Text

from masqclip import __version__
from masqclip.cli.console import out_console, print_line
from masqclip.cli.model_facts import model_facts

app = App(
    name="info",
    help_epilogue="""\
**Examples**

```text
# versions, devices, models and vocabularies
masqclip info

# the same for a program, or to paste into a report of a defect
masqclip info --json

# public models that are known by name, with their sizes and licences
masqclip info --models

# one of them, or a model's folder: what it is, takes, and how it sees
masqclip info photo

# the names of a built-in vocabulary
masqclip info coco-panoptic

# the names of the models only
masqclip info --json | jq -r '.models[].name'
```""",
)


@app.default
def info(
    name: Annotated[str | None, Parameter(name="NAME")] = None,
    /,
    *,
    models: Annotated[bool, Parameter(show_default=False)] = False,
    json: Annotated[bool, Parameter(show_default=False)] = False,
) -> int:
    """Say what is installed, where it runs, and which models and vocabularies there are.

    Args:
        name: A preset, a model's name or folder, or a vocabulary, to be told about alone.
        models: List the public models that are known by name, for --model, --clip and --proposer.
        json: Print one JSON document.
    """
    if name is not None:
        return _one_model(name, json)
    if models:
        return _named_models(json)
    facts = collect_facts()
    if json:
        sys.stdout.write(json_module.dumps(facts) + "\n")
        return 0
    console = out_console()
    versions = facts["versions"]
    console.print(Text(f"masqclip {versions.pop('masqclip')}", style="bold"))
    console.print(Text("  ".join(f"{name} {version}" for name, version in versions.items())))
    for device in facts["devices"]:
        console.print(Text(_device_line(device)))
    console.print(
        Text(f"by default: device {facts['default_device']}, dtype {facts['default_dtype']}\n")
    )
    shipped = _table("models", "size", "")
    for model in facts["models"]:
        shipped.add_row(model["name"], f"{model['megabytes']:.1f} MB", Text(model["summary"]))
    if not facts["models"]:
        shipped.add_row("none", "", "--model takes a folder or a name on the Hugging Face Hub")
    console.print(shipped)
    vocabularies = _table("vocabularies", "")
    for name, description in facts["vocabularies"].items():
        vocabularies.add_row(name, Text(description))
    console.print(vocabularies)
    return 0


def _named_models(json: bool) -> int:
    from masqclip.hub import named_models, presets

    if json:
        listed = [asdict(preset) | {"kind": "preset"} for preset in presets()]
        listed += [asdict(model) for model in named_models()]
        sys.stdout.write(json_module.dumps(listed) + "\n")
        return 0
    for kind, option in (("preset", "--model"), ("clip", "--clip"), ("proposer", "--proposer")):
        _print_named(option, "download", "licence", bold=True)
        if kind == "preset":
            for preset in presets():
                licence = preset.licence or ", ".join(
                    dict.fromkeys(p.licence for p in preset.parts)
                )
                _print_named(preset.name, f"{preset.megabytes} MB", licence, preset.what)
        for model in named_models():
            if model.kind == kind:
                size = f"{model.megabytes} MB"
                _print_named(model.name, size, model.licence, model.what, model.repository)
        print_line("")
    print_line("Sizes are approximate, licences those of the weights, unsaid by some publishers.")
    print_line("masqclip info NAME says more of one, masqclip download NAME fetches it.")
    return 0


def _print_named(name: str, size: str, licence: str, *about: str, bold: bool = False) -> None:
    """A model in a few lines that fit 80 columns; what people copy stays in one piece."""
    print_line(f"{name:27}{size:>9}   {licence}", style="bold" if bold else None)
    for line in about:
        print_line(f"    {line}", style="dim")


def _one_model(name: str, json: bool) -> int:
    """What is known of a preset, a part, a folder or a vocabulary; no files need be here."""
    facts = model_facts(name)
    if json:
        sys.stdout.write(json_module.dumps(facts) + "\n")
        return 0
    width = max(map(len, facts))
    for key, value in facts.items():
        text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        out_console().print(Text(f"{key:{width}}  {text}"), soft_wrap=True)
    return 0


def collect_facts() -> dict[str, Any]:
    """Everything that `masqclip info` says, as JSON has it."""
    import torch

    from masqclip.clip.vocabulary import ABOUT_EVERYTHING, EVERYTHING, builtin_vocabularies
    from masqclip.devices import choose_device, choose_dtype

    device = choose_device()
    return {
        "versions": {
            "masqclip": __version__,
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "transformers": metadata.version("transformers"),
            "platform": f"{platform.system()} {platform.machine()}",
        },
        "devices": _devices(),
        "default_device": str(device),
        "default_dtype": str(choose_dtype(None, device)).removeprefix("torch."),
        "models": packaged_models(resources.files("masqclip") / "models"),
        "vocabularies": {**builtin_vocabularies(), EVERYTHING: ABOUT_EVERYTHING},
    }


def packaged_models(folder: Traversable) -> list[dict[str, Any]]:
    """The models in a folder: each sub-folder with a config.json.

    The line about a model is ``summary`` in its model_card.json; without one, it is empty.
    """
    if not folder.is_dir():
        return []
    models = []
    for model in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if not model.is_dir() or not (model / "config.json").is_file():
            continue
        card = model / "model_card.json"
        summary = (
            json_module.loads(card.read_text("utf-8")).get("summary", "") if card.is_file() else ""
        )
        size = _bytes(model)
        models.append({"name": model.name, "megabytes": round(size / 1e6, 1), "summary": summary})
    return models


def _bytes(entry: Traversable) -> int:
    if entry.is_dir():
        return sum(_bytes(child) for child in entry.iterdir())
    with entry.open("rb") as file:
        return file.seek(0, 2)


def _devices() -> list[dict[str, Any]]:
    import torch

    from masqclip.devices import cpu_has_bfloat16

    devices: list[dict[str, Any]] = [
        {"name": "cpu", "threads": torch.get_num_threads(), "bfloat16": cpu_has_bfloat16()}
    ]
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            gpu = torch.cuda.get_device_properties(index)
            devices.append(
                {
                    "name": f"cuda:{index}",
                    "model": gpu.name,
                    "gigabytes": round(gpu.total_memory / 1e9, 1),
                    "bfloat16": torch.cuda.is_bf16_supported(including_emulation=False),
                }
            )
    if torch.backends.mps.is_available():
        devices.append({"name": "mps"})
    return devices


def _device_line(device: dict[str, Any]) -> str:
    parts = [f"device {device['name']}"]
    if "model" in device:
        parts += [device["model"], f"{device['gigabytes']} GB"]
    if "threads" in device:
        parts.append(f"{device['threads']} threads")
    if "bfloat16" in device:
        parts.append("with bfloat16" if device["bfloat16"] else "without native bfloat16")
    return ", ".join(parts)


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for column in columns:
        table.add_column(column, header_style="bold", overflow="fold")
    return table
