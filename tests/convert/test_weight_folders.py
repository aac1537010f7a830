"""Which files of a folder are read as its weights, and which are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import CLIPVisionModel

from masqclip.errors import MasqclipError
from masqclip.weights.folders import inside, load_model, read_folder

ONE, TWO = {"a": torch.tensor([1.0])}, {"b": torch.tensor([2.0, 3.0])}


def names(folder: Path, **settings: Any) -> dict[str, list[float]]:
    found = read_folder(folder, **settings)
    return {name: tensor.tolist() for name, tensor in sorted(found.items())}


def sharded(folder: Path, weight_map: Any, name: str = "model.safetensors") -> None:
    save_file(ONE, folder / "one.safetensors")
    save_file(TWO, folder / "two.safetensors")
    torch.save(ONE, folder / "one.bin")
    (folder / f"{name}.index.json").write_text(json.dumps({"weight_map": weight_map}))


def test_shards_are_read_together(tmp_path: Path) -> None:
    sharded(tmp_path, {"a": "one.safetensors", "b": "two.safetensors", "c": "two.safetensors"})
    assert names(tmp_path) == {"a": [1.0], "b": [2.0, 3.0]}
    save_file({"z": torch.zeros(1)}, tmp_path / "model.safetensors")
    assert names(tmp_path) == {"z": [0.0]}  # one whole file goes before an index


def test_pickles_are_read_where_there_is_nothing_else_and_they_are_asked_for(
    tmp_path: Path,
) -> None:
    torch.save(ONE, tmp_path / "pytorch_model.bin")
    assert names(tmp_path) == {"a": [1.0]}
    with pytest.raises(MasqclipError, match=r"needs model\.safetensors$"):
        read_folder(tmp_path, pickled=False)
    sharded(tmp_path, {"b": "two.safetensors"})
    assert names(tmp_path) == names(tmp_path, pickled=False) == {"b": [2.0, 3.0]}


def test_an_empty_folder_holds_no_weights(tmp_path: Path) -> None:
    with pytest.raises(MasqclipError, match=r"needs model\.safetensors or pytorch_model\.bin"):
        read_folder(tmp_path)


@pytest.mark.parametrize(
    "weight_map",
    [
        {"a": "../one.safetensors"}, {"a": "deep/one.safetensors"}, {"a": "one.bin"},
        {"a": "/one.safetensors"}, {"a": "one"},
    ],
)  # fmt: skip
def test_an_index_names_files_of_its_own_kind_beside_it(tmp_path: Path, weight_map: Any) -> None:
    sharded(tmp_path, {"b": "two.safetensors"} | weight_map)
    with pytest.raises(MasqclipError, match=r"it must be a \.safetensors file of the same folder"):
        read_folder(tmp_path)


@pytest.mark.parametrize("weight_map", [{}, [], None, {str(n): f"{n}.bin" for n in range(1001)}])
def test_an_index_names_files_and_not_too_many(tmp_path: Path, weight_map: Any) -> None:
    sharded(tmp_path, weight_map, "pytorch_model.bin")
    with pytest.raises(MasqclipError, match="names no files"):
        read_folder(tmp_path)


def test_an_index_of_pickles_names_pickles(tmp_path: Path) -> None:
    sharded(tmp_path, {"a": "one.bin"}, "pytorch_model.bin")
    assert names(tmp_path) == {"a": [1.0]}
    with pytest.raises(MasqclipError, match="holds no weights"):
        read_folder(tmp_path, pickled=False)


def test_a_file_lies_in_its_folder_or_in_the_hub_s_cache(tmp_path: Path) -> None:
    home = tmp_path / "hub/snapshots/main"
    blob = tmp_path / "hub/blobs/x"
    for folder in (home, blob.parent, tmp_path / "outside"):
        folder.mkdir(parents=True)
    blob.touch()
    (tmp_path / "outside/y").touch()
    (home / "own").touch()
    (home / "cached").symlink_to(blob)
    (home / "alias").symlink_to("own")
    (home / "out").symlink_to(tmp_path / "outside/y")
    (home / "folder").mkdir()
    (home / "loop").symlink_to("loop")
    for name in ("own", "cached", "alias"):
        assert inside(home, name) == home / name
    for name, said in (("out", "a link out of"), ("folder", "no regular file"),
                       ("loop", "there is no file"), ("gone", "there is no file")):  # fmt: skip
        with pytest.raises(MasqclipError, match=said):
            inside(home, name)
    plain = tmp_path / "plain"
    plain.mkdir()
    (plain / "cached").symlink_to(blob)  # only a snapshot's folder belongs to the cache
    with pytest.raises(MasqclipError, match="a link out of"):
        inside(plain, "cached")


def test_a_model_is_made_of_pickles_only_where_they_are_asked_for(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    torch.save(ONE, tmp_path / "pytorch_model.bin")
    with pytest.raises(MasqclipError, match="describes 12 layers, and the weights are only 1"):
        load_model(CLIPVisionModel, tmp_path)  # read, and of another model
    with pytest.raises(MasqclipError, match=r"needs model\.safetensors$"):
        load_model(CLIPVisionModel, tmp_path, pickled=False)
