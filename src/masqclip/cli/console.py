"""What the command line prints: tables on stdout; errors, notes and progress on stderr."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from masqclip.result import Segmentation

MAX_ROWS = 20


def out_console() -> Console:
    """For what was asked for. Made when needed, because stdout may be replaced meanwhile."""
    return Console(highlight=False)


def err_console() -> Console:
    """For errors, notes and progress."""
    return Console(stderr=True, highlight=False)


def print_error(message: str, *, kind: str = "error: ") -> None:
    """One line on stderr, never wrapped, whatever `message` holds."""
    line = Text("masqclip: ").append(kind, style="bold red").append(one_line(message))
    err_console().print(line, soft_wrap=True)


def one_line(text: str | Path) -> str:
    """Text that stays on one line and can be printed: names of files may hold anything."""
    readable = str(text).encode("utf-8", errors="replace").decode()  # no lone surrogates
    return "".join(c if c.isprintable() else " " if c.isspace() else "?" for c in readable)


def found_table(title: str, result: Segmentation) -> Table:
    """What was found in one picture: name, score, share of the picture, box; best first."""
    table = Table(title=Text(one_line(title)), title_justify="left", title_style="bold")
    table.add_column("name", overflow="fold")
    table.add_column("score", justify="right")
    table.add_column("area", justify="right")
    table.add_column("box (x0 y0 x1 y1)", justify="right", style="dim")
    height, width = result.image.shape[:2]
    segments = sorted(result.segments, key=lambda segment: -segment.score)
    for segment in segments[:MAX_ROWS]:
        table.add_row(
            Text(one_line(segment.name)),
            f"{segment.score:.2f}",
            f"{100 * segment.area / (height * width):.1f} %",
            " ".join(f"{round(edge):d}" for edge in segment.box),
        )
    if len(segments) > MAX_ROWS:
        table.caption = f"and {len(segments) - MAX_ROWS} more, in the JSON file"
    return table


class Steps:
    """A progress bar on stderr, with a line of text beside it; invisible where no one watches.

    Args:
        label: what the steps are, in a word.
        total: how many there are.
        hidden: show nothing, terminal or not.
    """

    def __init__(self, label: str, *, total: int, hidden: bool = False) -> None:
        self._progress: Any = None
        console = err_console()
        if not hidden and console.is_terminal:
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

            columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            texts = "[progress.description]{task.description}", "{task.fields[text]}"
            # Transient: pausing then wipes the bar, so that a table can take its place.
            self._progress = Progress(texts[0], *columns, texts[1], console=console, transient=True)
            self._task = self._progress.add_task(label, total=total, text="")

    def __enter__(self) -> Steps:
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._progress is not None:
            self._progress.stop()

    def advance(self) -> None:
        """One more step is done."""
        if self._progress is not None:
            self._progress.advance(self._task)

    def show(self, step: int, text: str = "") -> None:
        """So many steps are done, and this is to be said of the last one."""
        if self._progress is not None:
            self._progress.update(self._task, completed=step, text=text)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Take the bar away while something else is printed."""
        if self._progress is None:
            yield
            return
        self._progress.stop()
        try:
            yield
        finally:
            self._progress.start()
