"""`masqclip download NAME`: what a name stands for, fetched whole into the cache or a folder."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from masqclip.errors import MasqclipError
from masqclip.hub.download import (
    Tell,
    check_licence,
    download,
    fetch_together,
    prepare,
    shown_size,
)
from masqclip.hub.find import fetch_command
from masqclip.hub.kinds import ANY
from masqclip.hub.licences import accept, check_accepted
from masqclip.hub.registry import (
    NamedModel,
    Preset,
    find_named,
    find_preset,
    is_repository,
    named_models,
    presets,
    unknown_name,
)
from masqclip.hub.repository import OutOfReachError


@dataclass(frozen=True)
class Download:
    """What is to be fetched under one name.

    Attributes:
        name: as it was given.
        preset: where it is one.
        parts: (what it is, repository) of all that lies on the Hub.
    """

    name: str
    preset: Preset | None
    parts: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, name: str) -> Download:
        """What a name stands for.

        Raises:
            MasqclipError: nothing; the nearest name is said.
        """
        if (preset := find_preset(name)) is not None:
            return cls(name, preset, tuple((p.kind, p.repository) for p in preset.parts))
        if (named := find_named(name)) is not None:
            return cls(name, None, ((named.kind, named.repository),))
        if not is_repository(name):
            known = [
                *(preset.name for preset in presets()),
                *(model.name for model in named_models()),
            ]
            raise unknown_name(name, what="model", among=known)
        return cls(name, None, ((ANY, name),))

    @property
    def drive(self) -> Preset | None:
        """The preset, where a part of it lies on a drive."""
        return self.preset if self.preset is not None and self.preset.drive else None

    @property
    def entries(self) -> tuple[NamedModel, ...]:
        """Those of its parts that the registry knows."""
        found = (find_named(repository) for _, repository in self.parts)
        return tuple(entry for entry in found if entry is not None)

    def plan(self) -> list[str]:
        """What would be fetched, a line each, from what is known without a network."""
        lines = [
            f"{entry.repository}: about {shown_size(entry.megabytes * 10**6)}, licence: "
            f"{entry.licence}"
            for entry in self.entries
        ]
        if (drive := self.drive) is not None:
            lines.append(
                f"{drive.checkpoint} of {drive.drive}: about "
                f"{shown_size(drive.drive_megabytes * 10**6)}, licence: {drive.licence}"
            )
            return lines
        what = self.preset or (self.entries[0] if self.entries else self.parts[0][1])
        return [*lines, f"where there is a network, run: {fetch_command(what)}"]

    def accept(self) -> None:
        """Agree to all licences of it that forbid some uses."""
        agreed = [entry.repository for entry in self.entries if entry.restricted]
        if self.drive is not None:
            agreed.append(self.drive.name)
        if agreed:
            accept(agreed)

    def check_licences(self) -> None:
        """Refuse before anything is fetched.

        Raises:
            MasqclipError: one was not agreed to.
        """
        if self.drive is not None:
            check_accepted(
                self.drive.name,
                licence=str(self.drive.licence),
                page="https://github.com/mlpc-ucsd/MasQCLIP",
                command=f"masqclip download {self.name}",
            )
        for entry in self.entries:
            check_licence(entry, asked=self.name)

    def fetch(self, to: Path | None, *, tell: Tell) -> Path:
        """Fetch all of it that lies on the Hub.

        Args:
            to: a folder; None = the Hub's cache.
            tell: hears of each part.

        Returns:
            Where it lies: the folder, or one of several in the cache.

        Raises:
            MasqclipError: see `download`.
        """
        try:
            if self.preset is None:
                ((what, repository),) = self.parts
                return download(repository, what=what, to=to, tell=tell)
            pending = [
                prepare(repository, what=what, to=to and to / what)
                for what, repository in self.parts
            ]
        except OutOfReachError as error:
            *_, elsewhere = self.plan()
            raise MasqclipError(f"{self.name}: {error}; {elsewhere}") from error
        folders = fetch_together(self.name, pending, tell=tell)
        return to or Path(os.path.commonpath(folders))

    def use(self, to: Path | None) -> str:
        """How to use what was fetched."""
        if self.preset is not None:
            return f"masqclip segment photo.jpg -v NAMES --model {to or self.name}"
        kind = self.parts[0][0]
        option = f"--{kind}" if kind in ("clip", "proposer") else "--model, --clip or --proposer"
        return f"{option} {to or self.name}"
