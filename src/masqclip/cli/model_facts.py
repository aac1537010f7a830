"""What `masqclip info NAME` says: of a preset, a part by name, a folder, or a vocabulary."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from masqclip.errors import MasqclipError


def model_facts(name: str) -> dict[str, Any]:
    """Facts of a model or a vocabulary, in the order in which they are told, ready for JSON.

    Raises:
        MasqclipError: there is nothing of the name, or its files are damaged.
    """
    from masqclip.clip.vocabulary import EVERYTHING, builtin_vocabularies
    from masqclip.hub.local import cached
    from masqclip.hub.registry import find_named, find_preset

    if name in builtin_vocabularies() or name == EVERYTHING:
        return vocabulary_facts(name)
    if (preset := find_preset(name)) is not None:
        facts: dict[str, Any] = {"name": preset.name, "what": preset.what}
        for part in preset.parts:
            about = f"{part.name} ({part.what}), about {part.megabytes} MB, {part.licence}"
            facts[part.kind] = f"{about}, {part.page}"
        if preset.drive is not None:
            about = f"about {preset.drive_megabytes} MB, {preset.licence}, {preset.drive}"
            facts["checkpoint"] = f"{preset.checkpoint}, {about}"
        facts |= {
            "download": f"about {preset.megabytes} MB",
            "memory": f"{preset.memory_gb:g} GB on a processor ({_told(preset.drive is None)})",
            "seconds": f"{preset.cpu_seconds:g} a picture on two processor cores (measured), "
            f"{preset.gpu_seconds:g} on a large GPU ({_told(preset.gpu_measured)})",
        }
        here = all(cached(part.repository) is not None for part in preset.parts)
        return facts | ({"here": "no"} if not here else _of_files(name))
    if (named := find_named(name)) is not None:
        facts = {
            "name": named.name,
            "what": named.what,
            "kind": named.kind,
            "repository": named.repository,
            "download": f"about {named.megabytes} MB",
            "licence": f"{named.licence}, {named.page}",
        }
        if named.published_size is not None:
            facts["size"] = _size(*named.published_size)
        return facts | {"here": "no" if cached(named.repository) is None else "yes"}
    return {"name": name} | _of_files(name)


def vocabulary_facts(name: str) -> dict[str, Any]:
    """Facts of a built-in vocabulary, in the order in which they are told."""
    from masqclip.clip.vocabulary import (
        ABOUT_EVERYTHING,
        EVERYTHING,
        builtin_vocabularies,
        load_builtin,
    )

    use = f"masqclip segment IMAGE --vocabulary {name}"
    if name == EVERYTHING:
        return {"name": name, "what": ABOUT_EVERYTHING, "kind": "vocabulary", "use": use}
    words = load_builtin(name)
    things = [category.name for category in words.categories if category.thing]
    stuff = [category.name for category in words.categories if not category.thing]
    facts = {"name": name, "what": builtin_vocabularies()[name], "kind": "vocabulary"}
    facts |= {"use": use}
    return facts | {f"{len(things)} things": things, f"{len(stuff)} regions": stuff}


def _of_files(name: str) -> dict[str, Any]:
    """What the files of a model that is here say."""
    from masqclip.data.json_files import read_json
    from masqclip.hub import Parts, find_model

    found = find_model(name)
    if isinstance(found, Parts):
        from masqclip.parts import parts_settings

        facts = {"here": f"{found.clip}, {found.proposer}"}
        return facts | _settings(parts_settings(found.clip, found.proposer))
    file = found / "config.json"
    document = read_json(file, what="the configuration")
    if not isinstance(document, dict) or document.get("model_type") != "masqclip":
        raise MasqclipError(f"{name!r} is no model of this package: {file} describes another one")
    system = {"system": str(document.get("system", "masqclip"))[:40]}
    return {"here": str(found)} | system | _settings(document) | _world(found)


def _settings(told: dict[str, Any]) -> dict[str, Any]:
    """Sizes and normalisation, where they are told; else as published for Mask2Former."""
    from masqclip.configuration import MasQClipConfig

    names = (
        *("shortest_edge", "longest_edge", "pixel_mean", "pixel_std", "clip_mean", "clip_std"),
    )
    given = MasQClipConfig(**{name: told[name] for name in names if name in told})
    return {
        "size": _size(given.shortest_edge, given.longest_edge),
        "proposer's mean": list(given.pixel_mean),
        "proposer's deviation": list(given.pixel_std),
        "CLIP's mean": list(given.clip_mean),
        "CLIP's deviation": list(given.clip_std),
    }


def _world(folder: Path) -> dict[str, Any]:
    from masqclip.own_world import load_world

    world = load_world(folder)
    if world is None:
        return {}
    return {"knows": f"{len(world.names)} names; {world.about}", "names": sorted(world.names)}


def _told(measured: bool) -> str:
    return "measured" if measured else "an estimate"


def _size(shortest: int, longest: int) -> str:
    return f"{shortest} pixels along the shorter side, {longest} along the longer at most (--size)"
