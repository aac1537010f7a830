"""What a file, or a folder of weights, is told by: a digest of its bytes.

A job that goes on compares digests, so that nobody finds results of two models, or of pictures that
changed in between, in one folder.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from masqclip.data.files import open_regular
from masqclip.errors import MasqclipError

if TYPE_CHECKING:
    from torch import Tensor

_DIGEST_BYTES = 16
_READERS = 8  # files on a network come one after the other else
# What a model's numbers depend on; a card or a picture beside them may change.
_MODEL_FILES = (
    *("*.safetensors", "*.bin", "config.json", "tokenizer*.json", "vocab.*", "merges.*"),
    *("preprocessor_config.json", "processor_config.json", "open_clip_config.json"),
)


def digest_bytes(content: bytes | memoryview) -> str:
    """The digest of some bytes: 32 hexadecimal digits."""
    return hashlib.blake2b(content, digest_size=_DIGEST_BYTES).hexdigest()


def digest_file(path: str | Path) -> str:
    """The digest of a file's bytes, as `digest_bytes` gives it.

    Raises:
        MasqclipError: it cannot be read.
    """
    try:
        with open_regular(path, name=str(path)) as file:
            return hashlib.file_digest(
                file, lambda: hashlib.blake2b(digest_size=_DIGEST_BYTES)
            ).hexdigest()
    except OSError as error:
        raise MasqclipError(f"{path}: cannot be read ({error.strerror or error})") from error


def digest_files(paths: Iterable[str | Path]) -> list[str]:
    """The digests of many files, in order, several read at a time; of one that cannot be read "-".

    A picture is its content: one that was replaced may have the size and the date of the other.
    """

    def digest(path: str | Path) -> str:
        try:
            return digest_file(path)
        except (MasqclipError, ValueError):  # ValueError: a name that no file can have
            return "-"

    with ThreadPoolExecutor(_READERS) as readers:
        return list(readers.map(digest, paths))


def digest_model(*folders: str | Path) -> str:
    """The digest of a model: its weights, configuration and tokenizer, by name.

    Args:
        folders: the model's one folder; or its parts, folders and files, in their order.

    Raises:
        MasqclipError: a file cannot be read.
    """
    if len(folders) != 1:
        return combine_digests(digest_model(folder) for folder in folders)
    root = Path(folders[0])
    if root.is_file():
        return digest_file(root)
    files = sorted({path for pattern in _MODEL_FILES for path in root.glob(pattern)})
    return combine_digests(f"{path.name} {digest_file(path)}" for path in files)


def digest_tensors(tensors: Mapping[str, Tensor]) -> str:
    """The digest of tensors by name, wherever they are: of their bits, kinds and shapes."""
    import torch

    whole = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for name, tensor in tensors.items():
        whole.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        whole.update(flat.view(torch.uint8).numpy().data)
    return whole.hexdigest()


def combine_digests(digests: Iterable[str]) -> str:
    """One digest of several, in their order."""
    return digest_bytes("\n".join(digests).encode())
