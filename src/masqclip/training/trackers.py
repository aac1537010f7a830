"""Where a run's figures go: JSON lines always, TensorBoard where installed, others when asked."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from masqclip.data.files import write_atomically
from masqclip.data.json_files import null_for_nan, parse_json
from masqclip.errors import MasqclipError, require

#: Trackers that are asked for by name.
SERVICES = ("wandb", "trackio")


class Tracker(Protocol):
    """Somewhere to write figures to."""

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Write down the figures of a step."""

    def picture(self, step: int, name: str, path: Path) -> None:
        """Show a picture file."""

    def flush(self) -> None:
        """A checkpoint follows: what was logged must outlive the machine as it does."""

    def close(self) -> None:
        """The run is over, or pauses."""


class JsonLines:
    """One line of JSON a step, in ``log.jsonl``.

    Args:
        path: the file.
        first: the step that the run goes on from; lines of later ones are dropped, for a kill undid
            those steps and they are about to be written again.
    """

    def __init__(self, path: Path, first: int) -> None:
        if path.exists():
            kept = [line for line in read_log(path) if line["step"] <= first]
            write_atomically(path, "".join(json.dumps(line) + "\n" for line in kept).encode())
        self._file = path.open("a", encoding="utf-8")

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Write a line and hand it to the system; null stands for NaN."""
        self._file.write(json.dumps(null_for_nan({"step": step, **figures})) + "\n")
        self._file.flush()

    def picture(self, step: int, name: str, path: Path) -> None:
        """Pictures are files already."""

    def flush(self) -> None:
        """Wait for the disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class TensorBoard:
    """Event files for ``tensorboard --logdir RUN``.

    Args:
        folder: where the files go.
        first: the step that the run goes on from; later events are hidden.
    """

    def __init__(self, folder: Path, first: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(folder), purge_step=first + 1)

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """One point on each curve."""
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)

    def picture(self, step: int, name: str, path: Path) -> None:
        """Show the picture under its name."""
        with Image.open(path) as picture:
            pixels = np.asarray(picture.convert("RGB"))
        self._writer.add_image(name, pixels, step, dataformats="HWC")

    def flush(self) -> None:
        """Write what is left."""
        self._writer.flush()

    def close(self) -> None:
        """Write what is left, for good."""
        self._writer.close()


class Service:
    """Weights & Biases or trackio, whose Python interfaces are the same where we use them.

    Args:
        kind: ``wandb`` or ``trackio``.
        name: of the run; a run of that name is gone on with.
        config: the settings, to be shown beside the curves.

    Raises:
        MasqclipError: the package is not installed.
    """

    def __init__(self, kind: str, name: str, config: Mapping[str, Any]) -> None:
        service: Any = require(kind, extra="track", purpose=f"--track {kind}")
        options = {"project": "masqclip", "name": name, "config": dict(config), "resume": "allow"}
        if kind == "wandb":  # its runs are found again by their id
            options["id"] = name
        service.init(**options)
        self._service = service

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Send the figures."""
        self._service.log(dict(figures), step=step)

    def picture(self, step: int, name: str, path: Path) -> None:
        """Send the picture."""
        self._service.log({name: self._service.Image(str(path))}, step=step)

    def flush(self) -> None:
        """The service keeps what it was sent."""

    def close(self) -> None:
        """Send what is left."""
        self._service.finish()


def open_trackers(
    folder: Path, first: int, services: Sequence[str], config: Mapping[str, Any]
) -> list[Tracker]:
    """The trackers of a run.

    Args:
        folder: of the run; its last two names are the run's name at a service.
        first: the step that the run goes on from.
        services: of `SERVICES`.
        config: the settings.

    Raises:
        MasqclipError: a service is unknown or not installed.
    """
    for service in services:
        if service not in SERVICES:
            raise MasqclipError(f"--track {service}: give one of {', '.join(SERVICES)}")
    name = "-".join(folder.resolve().parts[-2:])
    trackers: list[Tracker] = [JsonLines(folder / "log.jsonl", first)]
    if find_spec("tensorboard") is not None:
        trackers.append(TensorBoard(folder / "tensorboard", first))
    return trackers + [Service(service, name, config) for service in services]


def read_log(path: Path) -> list[dict[str, float]]:
    """The whole lines of a ``log.jsonl``; a kill may have left half a line at its end.

    Raises:
        MasqclipError: a line is damaged.
    """
    content = path.read_bytes()
    lines = []
    for number, text in enumerate(content[: content.rfind(b"\n") + 1].splitlines(), start=1):
        line = parse_json(text, source=f"{path}, line {number}: delete that line")
        if not isinstance(line, dict) or not isinstance(line.get("step"), int):
            raise MasqclipError(f"{path}, line {number}: no figures of a step: delete that line")
        lines.append(line)
    return lines
