"""Weights by name: local folders, the registry of named models, and the Hugging Face Hub.

Downloads are huggingface_hub's: they show progress, go on where they stopped, and are verified.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

from masqclip.errors import MasqclipError

_FILES = ("*.json", "*.txt")
# The first kind of weights that a repository has; .bin is read as tensors only.
_WEIGHTS = ("model*.safetensors", "pytorch_model*.bin")


@dataclass(frozen=True)
class NamedModel:
    """An entry of the registry.

    Attributes:
        name: what masqclip calls it.
        kind: ``clip`` or ``proposer``.
        repository: what is downloaded: the Hub's owner/name.
        what: what it is, in a line.
        megabytes: of the download, about.
        licence: of the weights; ``unknown`` where the publisher does not say.
    """

    name: str
    kind: str
    repository: str
    what: str
    megabytes: int
    licence: str


@cache
def named_models() -> tuple[NamedModel, ...]:
    """The registry: public models that work here, for `from_parts` and the command line."""
    text = (resources.files("masqclip") / "models" / "named.json").read_text("utf-8")
    return tuple(NamedModel(**entry) for entry in json.loads(text))


def model_folder(name_or_path: str | Path) -> Path:
    """The folder of a whole model: a shipped one, a folder, or one of the Hub, downloaded.

    Raises:
        MasqclipError: there is no such model, or it is not here and cannot be downloaded.
    """
    models = Path(__file__).parent / "models"
    shipped, given = models / str(name_or_path), Path(name_or_path)
    folder = shipped if (shipped / "config.json").is_file() else given
    if folder.is_dir():
        return folder
    if given.exists() or str(name_or_path).count("/") != 1:
        names = ", ".join(sorted(path.parent.name for path in models.glob("*/config.json")))
        raise MasqclipError(
            f"there is no model {str(name_or_path)!r}: give a folder with config.json and "
            f"model.safetensors, a Hub name such as owner/model, or a shipped one ({names})"
        )
    return find_weights(str(name_or_path), what="model")


def find_weights(name_or_path: str | Path, *, what: str) -> Path:
    """The folder that holds a model's files, downloaded first if it has to be.

    Args:
        name_or_path: a folder, a name of the registry, or the Hub's owner/name.
        what: what is looked for, for the errors: ``"CLIP"``.

    Raises:
        MasqclipError: it is neither, or it is not here and cannot be downloaded.
    """
    folder = Path(name_or_path)
    if folder.is_dir():
        return folder
    name = str(name_or_path)
    repository = {model.name: model.repository for model in named_models()}.get(name, name)
    if repository.count("/") != 1 or folder.exists() or name.startswith((".", "/", "~")):
        raise MasqclipError(
            f"there is no {what} {name!r}: give a folder, a Hub name such as owner/model, or a "
            "name that 'masqclip info --models' lists"
        )
    return _download(repository, what=what)


def find_tokenizer(repository: str) -> Path:
    """The folder of a Hub repository's small files, downloaded first if need be.

    Raises:
        MasqclipError: it is not here and cannot be downloaded.
    """
    return _download(repository, what="tokenizer", weights=False)


def _download(repository: str, *, what: str, weights: bool = True) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        if not weights:
            return Path(snapshot_download(repository, allow_patterns=[*_FILES]))
        for pattern in _WEIGHTS:
            folder = Path(snapshot_download(repository, allow_patterns=[*_FILES, pattern]))
            if any(folder.glob(pattern)):
                return folder
    except (OSError, HfHubHTTPError, LocalEntryNotFoundError, ValueError) as error:
        raise MasqclipError(
            f"the {what} {repository!r} is not on this machine and cannot be downloaded "
            f"({_reason(error)}): where there is a network, run "
            f"'hf download {repository} --local-dir FOLDER', and give that folder here"
        ) from error
    raise MasqclipError(f"the Hub's {repository!r} holds no weights that can be read safely")


def _reason(error: Exception) -> str:
    if type(error).__name__ in ("RepositoryNotFoundError", "GatedRepoError"):
        return "the Hub does not have it, or not for everybody"
    return "the Hub cannot be reached"


class _Quiet:
    """How many are at work that want transformers quiet, and what the first of them found set."""

    lock = threading.Lock()
    holders = 0
    level = 0
    bars = False


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Hold back transformers' progress bars and advice: what matters is said by our own errors.

    The settings are the process's: of threads that overlap, the first changes them and the last
    puts them back.
    """
    from transformers.utils import logging

    with _Quiet.lock:
        if _Quiet.holders == 0:
            _Quiet.level, _Quiet.bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
            logging.set_verbosity_error()
            logging.disable_progress_bar()
        _Quiet.holders += 1
    try:
        yield
    finally:
        with _Quiet.lock:
            _Quiet.holders -= 1
            if _Quiet.holders == 0:
                logging.set_verbosity(_Quiet.level)
                if _Quiet.bars:
                    logging.enable_progress_bar()
