"""Weights by name: folders, the registry, downloads, and what is said when there is no network."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from masqclip.cli.main import main
from masqclip.errors import MasqclipError
from masqclip.hub import (
    find_model,
    find_tokenizer,
    find_weights,
    model_folders,
    named_models,
    presets,
    quiet_transformers,
)
from masqclip.model import MasQClipModel
from masqclip.proposals.adapters import ADAPTERS
from masqclip.weights import folders


def test_folders_are_taken_as_they_are(tmp_path: Path) -> None:
    assert find_weights(tmp_path, what="CLIP") == tmp_path


@pytest.mark.parametrize("name", ["nowhere", "./models/clip", "/models/clip", "a/b/c"])
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(MasqclipError, match="there is no CLIP"):
        find_weights(name, what="CLIP")


def test_what_is_no_weights_folder_is_no_name_of_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is it asked for: a path that is mistyped must not leave the machine."""
    asked: list[str] = []
    monkeypatch.setattr("masqclip.hub.find.download", lambda name, **_: asked.append(name))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner").mkdir()
    (tmp_path / "owner" / "file").touch()
    for name in ("owner/file", "~/model", "./model", "/model"):
        with pytest.raises(MasqclipError, match="there is no model"):
            find_weights(name, what="model")
    for name in ("owner/file", "nowhere", "a/b/c", str(tmp_path / "owner" / "file"), "~/x", "./x"):
        with pytest.raises(
            MasqclipError, match=f"no model {name!r}.*that 'masqclip info --models'"
        ):
            find_model(name)
    assert asked == []
    assert find_model("owner") == Path("owner")
    find_model("someone/model")
    find_tokenizer("someone/words")
    assert asked == ["someone/model", "someone/words"]
    assert model_folders("masqclip-mini")[0].name == "masqclip-mini"
    with pytest.raises(MasqclipError, match="'clip-b16' is a clip, a half of a model: give"):
        find_model("clip-b16")


def test_parts_go_together(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["segment", "x.png", "-v", "frog", "--clip", "clip-b16"]
    assert main(words) == 2
    assert "--proposer is missing" in capsys.readouterr().err


def test_the_registry() -> None:
    models, names = named_models(), [preset.name for preset in presets()]
    assert names[0] == "photo", "the recommended one comes first"
    assert len({*names, *(model.name for model in models)}) == len(models) + len(names)
    assert len({model.repository for model in models}) == len(models)
    for model in models:
        assert model.kind in ("clip", "proposer")
        assert model.repository.count("/") == 1
        assert model.megabytes > 0
        assert model.licence
        assert model.restricted == (
            model.licence.startswith(("CC BY-NC", "Apple (", "DINOv3 (", "SAM ("))
        )
        files = ("model.safetensors", "pytorch_model.bin", "open_clip_model.safetensors")
        assert model.weights in files
        if model.kind == "proposer":
            assert any(kind in model.repository for kind in ADAPTERS)
    for preset in presets():
        assert [part.kind for part in preset.parts] == ["clip", "proposer"][: len(preset.parts)]
        assert (preset.proposer is None) == (preset.drive is not None)
        for figure in (preset.memory_gb, preset.cpu_seconds, preset.gpu_seconds):
            assert figure > 0


def test_quiet_of_two_threads_ends_with_the_last() -> None:
    """One begins within the other and ends after it: what was set before is set again."""
    from transformers.utils import logging

    level, first, second = logging.get_verbosity(), quiet_transformers(), quiet_transformers()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert logging.get_verbosity() == logging.ERROR
    second.__exit__(None, None, None)
    assert logging.get_verbosity() == level


@pytest.mark.parametrize("bars", [True, False])
def test_what_was_quiet_stays_quiet(bars: bool) -> None:
    from transformers.utils import logging

    before, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    switch = {True: logging.enable_progress_bar, False: logging.disable_progress_bar}
    switch[bars]()
    logging.set_verbosity(logging.DEBUG)
    try:
        for _ in range(2):  # the second finds what the first left
            with quiet_transformers():
                assert not logging.is_progress_bar_enabled()
            assert logging.is_progress_bar_enabled() == bars
            assert logging.get_verbosity() == logging.DEBUG
    finally:
        switch[before]()
        logging.set_verbosity(level)


def test_a_model_of_its_own_names_is_loaded_as_transformers_would(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (folder,) = model_folders("masqclip-mini")
    torch.manual_seed(3)
    chance = torch.get_rng_state()
    quick = MasQClipModel.from_pretrained(folder)
    assert torch.equal(torch.get_rng_state(), chance)
    monkeypatch.setattr(folders, "_SMALL", 0)
    slow = MasQClipModel.from_pretrained(folder)
    assert not quick.training
    assert quick.config.to_dict() == slow.config.to_dict()
    for mine, theirs in (
        (quick.named_parameters(), slow.named_parameters()),
        (quick.named_buffers(), slow.named_buffers()),  # those that no file holds as well
    ):
        told = dict(theirs)
        for name, tensor in mine:
            assert torch.equal(tensor, told.pop(name)), name
        assert not told
    assert not any(parameter.requires_grad for parameter in quick.clip.parameters())
