"""What a repository of the Hub holds, and which of it is needed.

One question is asked of the Hub, and its answer has names, sizes and digests of all files. Of the
copies of the weights that many repositories hold (safetensors, pickles, half precision, other
libraries') one kind is taken, the first of `local.WEIGHTS`; of the rest the small files that are
read here, by name.
"""

from __future__ import annotations

import os
import socket
import threading
import urllib.request
from dataclasses import dataclass
from urllib.parse import urlsplit

from masqclip.errors import MasqclipError
from masqclip.hub.local import CONFIGS, WEIGHTS
from masqclip.hub.registry import named_models, unknown_name

#: Seconds to wait for the Hub where a download was asked for, and where a model was only named.
PATIENCE, IMPATIENCE = 10.0, 1.0
_SMALL_FILES = (
    *CONFIGS,
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.json",
    "merges.txt",
    "model_card.json",
)
_MAX_SMALL_BYTES = 128_000_000  # a tokenizer of 900,000 pieces has 60 MB


class OutOfReachError(MasqclipError):
    """The Hub does not answer, or is not to be asked: another machine may have more luck."""


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository.

    Attributes:
        name: in the repository.
        size: in bytes.
        digest: SHA-256 of a large file; git's SHA-1 of a small one (`transfer.matches`).
    """

    name: str
    size: int
    digest: str


@dataclass(frozen=True)
class Repository:
    """What the Hub says of a repository.

    Attributes:
        name: owner/name.
        revision: the commit.
        files: all of them, by name.
        endpoint: of the Hub.
    """

    name: str
    revision: str
    files: dict[str, RemoteFile]
    endpoint: str

    def small_files(self) -> list[RemoteFile]:
        """What is read here beside weights, and indices of weights."""
        indices = (f"{name}.index.json" for names in WEIGHTS.values() for name in names)
        named = [self.files[name] for name in (*_SMALL_FILES, *indices) if name in self.files]
        return [file for file in named if file.size <= _MAX_SMALL_BYTES]

    def weights(self) -> str | None:
        """The file of weights to take, or the index of its shards; None where there are none."""
        for config, names in WEIGHTS.items():
            if config in self.files:
                for name in names:
                    for file in (name, f"{name}.index.json"):
                        if file in self.files:
                            return file
        return None


def endpoint() -> str:
    """The Hub's address, which the variable HF_ENDPOINT sets."""
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def look_up(name: str, *, what: str, patience: float = PATIENCE) -> Repository:
    """Ask the Hub what a repository holds.

    Args:
        name: owner/name.
        what: what it is to be, for the errors: ``"CLIP"``.
        patience: seconds until the Hub counts as out of reach.

    Raises:
        MasqclipError: there is none, or it is not for everybody.
        OutOfReachError: the Hub cannot be reached.
    """
    from huggingface_hub import HfApi

    where = endpoint()
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        raise OutOfReachError("downloads are switched off here: HF_HUB_OFFLINE")
    if not _reachable(where, patience):
        raise OutOfReachError(f"{_host(where)} cannot be reached")
    try:
        told = HfApi(endpoint=where).model_info(
            name, files_metadata=True, timeout=max(patience, PATIENCE)
        )
        files = {
            file.rfilename: RemoteFile(
                file.rfilename,
                int(file.size or 0),
                file.lfs.sha256 if file.lfs else str(file.blob_id),
            )
            for file in told.siblings or ()
        }
        return Repository(name, str(told.sha), files, where)
    except Exception as error:  # of the network, of the Hub's library, of what a proxy answers
        raise explained(error, name, what=what) from error


def explained(error: Exception, name: str, *, what: str) -> MasqclipError:
    """One line about what went wrong between here and the Hub."""
    if isinstance(error, MasqclipError):
        return error
    where = endpoint()
    kinds = {kind.__name__ for kind in type(error).__mro__}
    status = getattr(getattr(error, "response", None), "status_code", None)
    page = f"{where}/{name}"
    if "GatedRepoError" in kinds or status == 403:
        return MasqclipError(
            f"the {what} {name!r} is for those who asked: agree to its terms at {page}, sign in "
            "with 'hf auth login' (or set HF_TOKEN), and run the same command again"
        )
    if "RepositoryNotFoundError" in kinds or status == 401:
        known = [model.repository for model in named_models()]
        missing = unknown_name(name, what=what, among=known)
        return MasqclipError(f"{_host(where)} says: {missing}; a private one needs HF_TOKEN")
    if status is not None and (status == 429 or status >= 500):
        return MasqclipError(f"{_host(where)} is busy (status {status}): try again in a while")
    if status is not None and status >= 400 and status != 404:
        return MasqclipError(f"{_host(where)} refuses {name!r} (status {status})")
    # The Hub itself says what it does not have in a header, of which its library makes an error.
    if status == 404 or kinds & {
        "JSONDecodeError",
        "UnicodeDecodeError",
        "KeyError",
        "AttributeError",
        "TypeError",
    }:
        return MasqclipError(
            f"what answers for {_host(where)} is not the Hub (a proxy's page, or a sign-in): open "
            f"{page} in a browser, or name a mirror (HF_ENDPOINT)"
        )
    reason = "it takes too long" if any("Timeout" in kind for kind in kinds) else kind_line(error)
    return OutOfReachError(f"{_host(where)} cannot be reached: {reason}")


def kind_line(error: Exception) -> str:
    """What an error of a library says, in a few words."""
    return " ".join(str(error).split())[:120] or type(error).__name__


def _host(where: str) -> str:
    return urlsplit(where).netloc or where


def _reachable(where: str, patience: float) -> bool:
    """Whether a connection can be made, to the Hub or to the proxy on the way, in that time.

    Asked first and in a thread: without a network, looking up a name can take a minute, and nothing
    ends that.
    """
    address = urlsplit(where)
    proxies = (
        {} if urllib.request.proxy_bypass(address.hostname or "") else urllib.request.getproxies()
    )
    if proxy := proxies.get(address.scheme) or proxies.get("all"):
        address = urlsplit(proxy if "//" in proxy else f"//{proxy}")
    port = address.port or (80 if address.scheme == "http" else 443)
    answers: list[bool] = []

    def connect() -> None:
        try:
            socket.create_connection((address.hostname or "", port), timeout=patience).close()
            answers.append(True)
        except (OSError, UnicodeError):
            answers.append(False)

    asking = threading.Thread(target=connect, daemon=True)
    asking.start()
    asking.join(patience)
    return answers == [True]
