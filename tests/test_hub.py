"""Weights by name: folders, the registry, downloads, and what is said when there is no network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError

from masqclip.cli.main import main
from masqclip.errors import MasqclipError
from masqclip.hub import (
    find_tokenizer,
    find_weights,
    model_folder,
    named_models,
    quiet_transformers,
)
from masqclip.model import MasQClipModel
from masqclip.proposals.adapters import ADAPTERS
from masqclip.weights import folders


class Hub:
    """A hub with one repository, whose weights are of one kind."""

    def __init__(self, folder: Path, weights: str) -> None:
        self.folder, self.weights = folder, weights
        self.asked: list[tuple[str, list[str]]] = []

    def __call__(self, repository: str, *, allow_patterns: list[str], **_: Any) -> str:
        self.asked.append((repository, allow_patterns))
        if any(Path(self.weights).match(pattern) for pattern in allow_patterns):
            (self.folder / self.weights).write_bytes(b"")
        return str(self.folder)


def test_folders_are_taken_as_they_are(tmp_path: Path) -> None:
    assert find_weights(tmp_path, what="CLIP") == tmp_path


@pytest.mark.parametrize(
    ("weights", "questions"), [("model.safetensors", 1), ("pytorch_model.bin", 2)]
)
def test_downloads_one_kind_of_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: str, questions: int
) -> None:
    hub = Hub(tmp_path, weights)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", hub)
    assert find_weights("clip-l14-336", what="CLIP") == tmp_path
    assert len(hub.asked) == questions
    assert {repository for repository, _ in hub.asked} == {"openai/clip-vit-large-patch14-336"}
    assert (tmp_path / weights).exists()


def test_a_repository_without_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "snapshot_download", Hub(tmp_path, "flax_model.msgpack"))
    with pytest.raises(MasqclipError, match="holds no weights that can be read safely"):
        find_weights("owner/model", what="CLIP")


def test_without_a_network(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def unreachable(*_: Any, **__: Any) -> str:
        raise LocalEntryNotFoundError("long\nexplanation")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    monkeypatch.chdir(Path(__file__).parents[1])
    words = ["segment", "examples/pond.png", "-v", "frog", "--out", str(tmp_path)]
    assert main([*words, "--clip", "clip-l14-336", "--proposer", "sam-b"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "CLIP 'openai/clip-vit-large-patch14-336' is not on this machine" in error
    assert "hf download openai/clip-vit-large-patch14-336 --local-dir FOLDER" in error


@pytest.mark.parametrize("name", ["nowhere", "./models/clip", "/models/clip", "a/b/c"])
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(MasqclipError, match="there is no CLIP"):
        find_weights(name, what="CLIP")


def test_what_is_no_weights_folder_is_no_name_of_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is it asked for: a path that is mistyped must not leave the machine."""
    hub = Hub(tmp_path, "model.safetensors")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", hub)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner").mkdir()
    (tmp_path / "owner" / "file").touch()
    for name in ("owner/file", "~/model", "./model", "/model"):
        with pytest.raises(MasqclipError, match="there is no model"):
            find_weights(name, what="model")
    for name in ("owner/file", "nowhere", "a/b/c", str(tmp_path / "owner" / "file")):
        with pytest.raises(MasqclipError, match=rf"no model '{name}'.* one \(masqclip-mini\)"):
            model_folder(name)
    assert hub.asked == []
    assert model_folder("owner") == Path("owner")
    assert model_folder("someone/model") == tmp_path
    assert model_folder("masqclip-mini").name == "masqclip-mini"
    assert {repository for repository, _ in hub.asked} == {"someone/model"}


def test_of_a_tokenizer_the_small_files_are_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = Hub(tmp_path, "model.safetensors")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", hub)
    assert find_tokenizer("owner/model") == tmp_path
    assert hub.asked == [("owner/model", ["*.json", "*.txt"])]
    find_weights("owner/model", what="CLIP")
    assert hub.asked[1:] == [("owner/model", ["*.json", "*.txt", "model*.safetensors"])]


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("RepositoryNotFoundError", "the Hub does not have it, or not for everybody"),
        ("GatedRepoError", "the Hub does not have it, or not for everybody"),
        ("ConnectionError", "the Hub cannot be reached"),
    ],
)
def test_why_it_cannot_be_downloaded(monkeypatch: pytest.MonkeyPatch, kind: str, said: str) -> None:
    def fails(*_: Any, **__: Any) -> str:
        raise type(kind, (OSError,), {})("long")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fails)
    for find, what in ((find_tokenizer, "tokenizer"), (model_folder, "model")):
        with pytest.raises(MasqclipError, match=f"^the {what} 'owner/model' is not .*{said}"):
            find("owner/model")


def test_parts_go_together(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["segment", "x.png", "-v", "frog", "--clip", "clip-b16"]
    assert main(words) == 2
    assert "--proposer is missing" in capsys.readouterr().err


def test_the_registry(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    models = named_models()
    assert len({model.name for model in models}) == len(models)
    for model in models:
        assert model.kind in ("clip", "proposer")
        assert model.repository.count("/") == 1
        assert model.megabytes > 0
        assert model.licence
        if model.kind == "proposer":
            assert any(kind in model.repository for kind in ADAPTERS)
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["info", "--models"]) == 0
    shown = capsys.readouterr().out
    for model in models:
        assert model.name in shown
        assert model.repository in shown


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
    folder = model_folder("masqclip-mini")
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
