"""What of a plan's folder is brought home: the model, reports, and what is gone on from later.

Archives are tars. One that is larger than a file may be lies in volumes, NAME.1, NAME.2 and so on:
``cat NAME.? > NAME`` joins them. Each begins with a list of its content's digests, so a set of
volumes that a kill has left half old and half new is told.
"""

from __future__ import annotations

import hashlib
import io
import json
import shlex
import tarfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from masqclip.cli.plan import PlanStep
from masqclip.data.files import write_atomically
from masqclip.data.json_files import read_json
from masqclip.training.checkpoint_files import read_checkpoint, write_checkpoint

VOLUME_BYTES = 15_900_000  # a file that is brought home stays under 16 MB
MODEL, REPORTS, CARRIED = "model.tar", "world.tar.gz", "carry.tar"
_LIST = "digests.json"
_REPORTS = (".json", ".jsonl", ".md", ".csv", ".png", ".toml", ".log")
_MOST_OF_A_REPORT = 2_000_000


def pack(files: Mapping[str, bytes], *, squeeze: bool = False) -> bytes:
    """An archive of files, its list first."""
    digests = {name: _digest(content) for name, content in files.items()}
    buffer = io.BytesIO()
    whole = {_LIST: json.dumps(digests).encode(), **files}
    with tarfile.open(fileobj=buffer, mode="w:gz" if squeeze else "w") as archive:
        for name, content in whole.items():
            about = tarfile.TarInfo(name)
            about.size, about.mode = len(content), 0o644
            archive.addfile(about, io.BytesIO(content))
    return buffer.getvalue()


def unpack(content: bytes) -> dict[str, bytes] | None:
    """The files of an archive of `pack`; None where it is not whole."""
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            for member in archive:
                file = archive.extractfile(member)
                path = PurePosixPath(member.name)
                if file is None or path.is_absolute() or ".." in path.parts:
                    return None
                found[member.name] = file.read()
        digests = json.loads(found.pop(_LIST))
    except (tarfile.TarError, KeyError, ValueError, EOFError, OSError):
        return None
    return found if digests == {name: _digest(one) for name, one in found.items()} else None


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def write_volumes(folder: Path, name: str, content: bytes, *, most: int) -> bool:
    """Write a file, in volumes where it must be; False when it needs more than `most`.

    What was written before under the name stays then.
    """
    count = max(1, -(-len(content) // VOLUME_BYTES))
    if count > most:
        return False
    names = [name] if count == 1 else [f"{name}.{i}" for i in range(1, count + 1)]
    before = volumes(folder, name)
    for i, one in enumerate(names):
        write_atomically(folder / one, content[i * VOLUME_BYTES : (i + 1) * VOLUME_BYTES])
    for path in before:
        if path.name not in names:
            path.unlink(missing_ok=True)
    return True


def volumes(folder: Path, name: str) -> list[Path]:
    """The files that `write_volumes` has left under a name."""
    several = sorted(folder.glob(f"{name}.[0-9]"))
    return [*([folder / name] if (folder / name).exists() else []), *several]


def read_volumes(folder: Path, name: str) -> dict[str, bytes] | None:
    """The files in an archive that may be in volumes; None where there is no whole one."""
    found = volumes(folder, name)
    single = [path for path in found if path.name == name]
    for paths in (single, [path for path in found if path not in single]):
        content = b"".join(path.read_bytes() for path in paths)
        if content and (files := unpack(content)) is not None:
            return files
    return None


def half_model(folder: Path) -> dict[str, bytes]:
    """A finished model's files, its weights in half precision but for what that cannot hold."""
    files = {
        path.name: path.read_bytes()
        for path in sorted(folder.iterdir())
        if path.suffix == ".json" and path.name not in ("inputs.json", "progress.json")
    }
    tensors: dict[str, Tensor] = {}
    with safe_open(folder / "model.safetensors", framework="pt") as file:
        for name in file.keys():  # noqa: SIM118  # it is no mapping
            tensors[name] = _halved(file.get_tensor(name))
        about = file.metadata()
    return files | {"model.safetensors": save(tensors, about)}


def _halved(tensor: Tensor) -> Tensor:
    if not tensor.is_floating_point():
        return tensor
    half = tensor.half()
    return half if bool(half.isfinite().all()) else tensor


def reports(folder: Path, steps: Sequence[PlanStep]) -> dict[str, bytes]:
    """Figures, curves, recipes and logs of a plan's steps; of models and data nothing."""
    found = {}
    runs = [folder, *(folder / name for name in sorted(_results(steps, ("train", "evaluate"))))]
    for run in runs:
        for path in sorted(run.glob("*")):
            small = path.is_file() and path.stat().st_size <= _MOST_OF_A_REPORT
            if small and path.suffix in _REPORTS and not path.name.startswith("tokenizer"):
                found[path.relative_to(folder).as_posix()] = path.read_bytes()
    return found


def carried_paths(folder: Path, steps: Sequence[PlanStep]) -> list[Path]:
    """What another machine needs to go on with a plan: results, and the newest checkpoints.

    Data is drawn again from its seeds, which gives the same bytes.
    """
    record = folder / "plan.json"
    noted = read_json(record, what="the plan's record") if record.exists() else {}
    done = _results([step for step in steps if step.name in noted], ("train",))
    found = [record]
    for name in sorted(_results(steps, ("train",))):
        for path in sorted((folder / name).rglob("*")):
            inside = path.relative_to(folder).parts
            hidden = any(part.startswith(".") for part in inside)
            if path.is_file() and not hidden and not {"checkpoints", "evaluation"} & set(inside):
                found.append(path)
        for kept in sorted((folder / name).rglob("checkpoints")):
            # A result alone does not do: a kill may come before the plan has noted it.
            inner = kept.parent != folder / name
            ended = (kept.parent / "model.safetensors").exists() if inner else name in done
            if not ended:
                found += [*sorted(kept.glob("step-*.pt"))[-1:], *kept.glob("best.pt")]
    makes = {folder / step.makes for step in steps if shlex.split(step.run)[0] == "evaluate"}
    return [path for path in (*found, *sorted(makes)) if path.exists()]


def _results(steps: Sequence[PlanStep], verbs: Collection[str]) -> set[str]:
    """The folders, one name each, in which steps of some verbs leave their results."""
    return {
        PurePosixPath(step.makes).parts[0]
        for step in steps
        if shlex.split(step.run)[0] in verbs and len(PurePosixPath(step.makes).parts) > 1
    }


def carry(folder: Path, paths: Iterable[Path], out: Path, scratch: Path, *, most: int) -> str:
    """Write what a later machine goes on from. Returns a line on what was left out, if anything.

    As it is where that fits. Else AdamW's moments of an unfinished run are rounded to bfloat16: a
    moment's relative error of 0.4 % changes a step by as much, once, while its weights stay what
    they were. Else the unfinished run starts anew there.

    Args:
        folder: of the plan.
        paths: of `carried_paths`.
        out: the folder that is brought home.
        scratch: a folder for files that are only looked at.
        most: volumes.
    """
    room = most * VOLUME_BYTES
    exact = list(paths)
    if sum(path.stat().st_size for path in exact) > 4 * room:
        return f"{CARRIED} is left out: what a later machine would go on from is too large"
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in exact}
    checkpoints = {name: one for name, one in files.items() if name.endswith(".pt")}
    others = {name: one for name, one in files.items() if name not in checkpoints}
    if write_volumes(out, CARRIED, pack(files), most=most):
        return ""
    rounded = {
        name: _with_moments(folder / name, scratch, torch.bfloat16)
        for name in checkpoints
        if not name.endswith("best.pt")
    }
    if write_volumes(out, CARRIED, pack(others | rounded), most=most):
        return f"{CARRIED} holds the moments of the unfinished run in bfloat16, its weights whole"
    if write_volumes(out, CARRIED, pack(others), most=most):
        return f"{CARRIED} holds no checkpoint of the unfinished run, which is too large"
    return f"{CARRIED} is left out: the finished stages alone are too large"


def restore(out: Path, folder: Path) -> int:
    """Put what was carried where a plan runs. Returns how many files."""
    files = read_volumes(out, CARRIED)
    for name, content in (files or {}).items():
        write_atomically(folder / name, content)
    for name in files or {}:
        if name.endswith(".pt") and not name.endswith("best.pt"):
            _with_moments(folder / name, None, torch.float32)
    return len(files or {})


def _with_moments(path: Path, scratch: Path | None, dtype: torch.dtype) -> bytes:
    """A checkpoint whose optimizer's tensors have another precision.

    Written to `scratch` and read back; or, without it, put in place if anything changes.
    """
    state = read_checkpoint(path)
    changed = False

    def convert(value: Any) -> Any:
        nonlocal changed
        if isinstance(value, dict):
            return {key: convert(one) for key, one in value.items()}
        if isinstance(value, list):
            return [convert(one) for one in value]
        # A step counter is a tensor of one number, which bfloat16 cannot count.
        rounds = isinstance(value, Tensor) and value.is_floating_point() and value.ndim > 0
        if rounds and value.dtype in (torch.float32, torch.bfloat16) and value.dtype != dtype:
            changed = True
            return value.to(dtype)
        return value

    whole = state | {"optimizer": convert(state["optimizer"])}
    if scratch is None:
        if changed:
            write_checkpoint(path, whole)
        return b""
    target = scratch / "rounded.pt"
    write_checkpoint(target, whole)
    content = target.read_bytes()
    target.unlink()
    return content


def beyond_limits(folder: Path) -> str:
    """Why a folder cannot be brought home whole; mostly nothing."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    large = [path.name for path in files if path.stat().st_size >= 16_000_000]
    if not large and len(files) <= 8:
        return ""
    return (
        f"{folder} holds {len(files)} files, of them too large: {', '.join(large) or 'none'}; "
        "8 files under 16 MB can be brought home"
    )
