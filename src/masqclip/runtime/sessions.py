"""Graphs of a folder, ready to be run: as they were exported, and in bounded memory."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from masqclip.data.files import open_regular, read_bounded
from masqclip.errors import MasqclipError, is_out_of_memory, require
from masqclip.runtime.graph_files import check_graph
from masqclip.runtime.settings import GRAPHS, OnnxSettings, Signature

#: Devices by name, and what onnxruntime calls what computes there.
PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "dml": "DmlExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
}
#: What graphs may take of the machine's memory, so that none brings it down.
_SHARE_OF_MEMORY = 0.75
_MOST_GRAPH_BYTES = 2_000_000_000  # that a protocol buffer can have
_TYPES = {"tensor(float)": "float32", "tensor(int64)": "int64", "tensor(uint8)": "uint8"}
_FATAL = 4  # onnxruntime's own messages: what goes wrong is told in one line by us


class Sessions:
    """The graphs of an exported model. Threads may share them.

    Args:
        settings: of the folder.
        device: a key of `PROVIDERS`; None = cuda where onnxruntime has it, else cpu.
        threads: that one run may use; None = as many as there are cores.

    Raises:
        MasqclipError: a file is missing, damaged, or no graph that this package would write; or
            the device is not there.
    """

    def __init__(
        self, settings: OnnxSettings, *, device: str | None = None, threads: int | None = None
    ) -> None:
        self._runtime: Any = require("onnxruntime", extra="onnx", purpose="an exported model")
        self.device, self._provider = self._choose(device)
        self._sessions: dict[str, Any] = {}
        weights = check_files(settings)
        for name in GRAPHS:
            self._sessions[name] = self._open(settings, name, weights, threads)

    def run(
        self, graph: str, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str]
    ) -> list[NDArray[np.float32]]:
        """Run a graph.

        Raises:
            MemoryError: it takes more memory than it may.
            MasqclipError: it fails.
        """
        try:
            found: list[NDArray[np.float32]] = self._sessions[graph].run(
                list(outputs), dict(inputs)
            )
        except Exception as error:
            raise _told(graph, error) from error
        return found

    def _choose(self, device: str | None) -> tuple[str, str]:
        there = self._runtime.get_available_providers()
        if device is None:
            device = "cuda" if PROVIDERS["cuda"] in there else "cpu"
        if device not in PROVIDERS:
            raise MasqclipError(
                f"there is no device {device[:40]!r} for an exported model: give one of "
                f"{', '.join(PROVIDERS)}"
            )
        if PROVIDERS[device] not in there:
            raise MasqclipError(
                f"device {device}: this onnxruntime has no {PROVIDERS[device]}; use cpu, or "
                "install the onnxruntime that has it"
            )
        return device, PROVIDERS[device]

    def _open(
        self,
        settings: OnnxSettings,
        name: str,
        weights: Mapping[str, int],
        threads: int | None,
    ) -> Any:
        file = settings.folder / f"{name}.onnx"
        content = read_bounded(file, max_bytes=_MOST_GRAPH_BYTES, what="the graph")
        check_graph(content, source=f"the graph {str(file)!r}", external=weights)
        options = self._runtime.SessionOptions()
        options.log_severity_level = _FATAL
        if threads is not None:
            options.intra_op_num_threads = threads
        # A thread that waits must not keep others off the processor.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if self.device == "cpu" and _bounded(self._runtime):
            options.add_session_config_entry("session.use_env_allocators", "1")
        providers = list(dict.fromkeys([self._provider, PROVIDERS["cpu"]]))
        try:
            # By its path where weights lie beside it, which is where they are looked for.
            opened = self._runtime.InferenceSession(
                str(file) if weights else content, options, providers=providers
            )
        except Exception as error:
            raise _told(str(file), error) from error
        _check_signature(opened.get_inputs(), settings.inputs[name], file, "inputs")
        _check_signature(opened.get_outputs(), settings.outputs[name], file, "outputs")
        return opened


def check_files(settings: OnnxSettings) -> dict[str, int]:
    """The files of weights beside the graphs, and their bytes, once all files are as exported.

    Raises:
        MasqclipError: one is not.
    """
    needed = {*(f"{name}.onnx" for name in GRAPHS), "tokenizer.json"}
    if lacking := needed - settings.files.keys():
        raise MasqclipError(
            f"the settings of {str(settings.folder)!r} do not name {min(lacking)}: export the "
            "model anew"
        )
    for name, (size, digest) in settings.files.items():
        path = settings.folder / name
        with open_regular(path, name=str(path)) as file:
            found = os.fstat(file.fileno()).st_size
            if found == size:
                found_digest = hashlib.file_digest(file, "sha256").hexdigest()
        if found != size:
            raise MasqclipError(
                f"{path}: {found:,} bytes, and {size:,} were exported: copy or export it anew"
            )
        if found_digest != digest:
            raise MasqclipError(f"{path}: not as it was exported: copy or export it anew")
    return {name: size for name, (size, _) in settings.files.items() if name.endswith(".data")}


def _check_signature(found: Sequence[Any], told: Signature, file: Path, what: str) -> None:
    """Refuse a graph that takes or gives something else than the folder's settings say."""
    there = {one.name: (_TYPES.get(one.type, one.type), tuple(one.shape)) for one in found}
    if there.keys() != told.keys():
        raise MasqclipError(f"{file}: its {what} are {', '.join(there)}, not {', '.join(told)}")
    for name, (kind, shape) in told.items():
        found_kind, found_shape = there[name]
        sides = zip(shape, found_shape, strict=False)
        if (
            kind != found_kind
            or len(shape) != len(found_shape)
            or any(isinstance(one, int) and one != other for one, other in sides)
        ):
            raise MasqclipError(
                f"{file}: {name} is {found_kind} {list(found_shape)}, and its settings say "
                f"{kind} {list(shape)}"
            )


def _told(graph: str, error: Exception) -> Exception:
    """onnxruntime's error as one of ours."""
    said = " ".join(str(error).split())
    if is_out_of_memory(error) or "Available memory" in said or "bad_alloc" in said:
        return MemoryError(f"{graph}: not enough memory")
    return MasqclipError(f"the graph {graph!r} cannot be run: {said[:200]}")


if sys.platform == "win32":

    def _memory() -> int:
        raise OSError("Windows does not say how much there is")

else:

    def _memory() -> int:
        """The machine's memory in bytes."""
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@cache
def _bounded(runtime: Any) -> bool:
    """Have onnxruntime's memory in this process bounded, once; whether it is."""
    try:
        most = int(_SHARE_OF_MEMORY * _memory())
        where = runtime.OrtMemoryInfo(
            "Cpu", runtime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, runtime.OrtMemType.DEFAULT
        )
        # It grows by what is asked for (1), not to powers of two.
        runtime.create_and_register_allocator(where, runtime.OrtArenaCfg(most, 1, -1, -1))
    except (AttributeError, OSError, ValueError, RuntimeError):
        return False
    return True
