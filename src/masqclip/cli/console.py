"""What the command line prints: tables on stdout; errors, notes and progress on stderr."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from masqclip.data.folders import LeftOut
    from masqclip.result import Segmentation

MAX_ROWS = 20
LINE_SECONDS = 30.0  # between two lines of progress in a log


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


def print_line(text: str, *, style: str | None = None) -> None:
    """One line on stdout, never wrapped, whatever `text` holds."""
    out_console().print(Text(one_line(text)), style=style, soft_wrap=True)


def print_left_out(left_out: LeftOut, *, quiet: bool) -> None:
    """What a search for pictures passed over, on stderr; when quiet, only what may be missed."""
    for line in left_out.lines(pictures_only=quiet):
        print_error(line, kind="note: ")


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
            Text(one_line(segment.label)),
            f"{segment.score:.2f}",
            f"{100 * segment.area / (height * width):.1f} %",
            " ".join(f"{round(edge):d}" for edge in segment.box),
        )
    if len(segments) > MAX_ROWS:
        table.caption = f"and {len(segments) - MAX_ROWS} more, in the JSON file"
    return table


def print_found(title: str, result: Segmentation, notes: Sequence[str]) -> None:
    """What was found in one picture, what of the vocabulary was not, and notes, on stdout."""
    if result.segments:
        out_console().print(found_table(title, result))
        if result.not_found:
            print_line(f"not found: {_some(result.not_found)}")
    else:
        print_line(f"{title}: nothing found")
    for note in notes:
        print_line(f"note: {note}", style="yellow")


def print_notes(notes: Iterable[str], *, quiet: bool = False) -> None:
    """What is to be known before figures or files are believed, on stderr."""
    for note in () if quiet else notes:
        print_error(note, kind="note: ")


def _some(names: Sequence[str]) -> str:
    """Names between commas; of very many, the first and how many more there are."""
    shown = ", ".join(names[:MAX_ROWS])
    return shown if len(names) <= MAX_ROWS else f"{shown} and {len(names) - MAX_ROWS} more"


class Steps:
    """A progress bar on stderr, with a note beside it; where no terminal is, a line now and then.

    On a terminal: percentage, steps done of all, time elapsed and remaining, the note. Elsewhere,
    as in a log, a plain line at most every `LINE_SECONDS`, and leaving the last one; it has the
    pace of late and the time left by it.

    Args:
        label: what the steps are, in a word.
        total: how many there are.
        hidden: show nothing, terminal or not.
        pace: tell the pace and the time left in plain lines; else the notes do.
        brief: print no plain line of work that is done before the first one is due.
    """

    def __init__(
        self,
        label: str,
        *,
        total: int,
        hidden: bool = False,
        pace: bool = True,
        brief: bool = False,
    ) -> None:
        self._progress: Any = None
        self._label, self._total, self._pace = label, total, pace
        self._done, self._silent = 0, brief
        self._waiting: str | None = None  # the newest line that is not printed yet
        self._started = self._printed = time.monotonic()
        # Where the pace is measured from: what an earlier run did is there at once.
        self._from: tuple[float, int] | None = None
        console = err_console()
        self._lines = not hidden and not console.is_terminal
        if not hidden and console.is_terminal:
            from rich import progress

            # Transient: pausing then wipes the bar, so that a table can take its place.
            self._progress = progress.Progress(
                progress.TextColumn("{task.description}", markup=False),
                progress.BarColumn(),
                progress.TaskProgressColumn(),
                progress.MofNCompleteColumn(),
                progress.TimeElapsedColumn(),
                progress.TimeRemainingColumn(),
                progress.TextColumn("{task.fields[note]}", markup=False),
                console=console,
                transient=True,
            )
            self._task = self._progress.add_task(label, total=total, note="")

    def __enter__(self) -> Steps:
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._progress is not None:
            self._progress.stop()
        if not self._silent:
            self._print_line()

    def advance(self) -> None:
        """One more step is done."""
        if self._progress is not None:
            self._progress.advance(self._task)
        else:
            self.show(self._done + 1)

    def note(self, text: str) -> None:
        """This is to be said of the step that is in work; only on a terminal."""
        if self._progress is not None:
            self._progress.update(self._task, note=one_line(text))

    def show(self, done: int, note: str = "") -> None:
        """So many steps are done, and this is to be said of the last one."""
        self._done = done
        if self._progress is not None:
            self._progress.update(self._task, completed=done, note=one_line(note))
        elif self._lines:
            now = time.monotonic()
            self._from = self._from or (now, done)
            share = 100 * done // self._total if self._total else 100
            elapsed = timedelta(seconds=round(now - self._started))
            line = f"{self._label}: {share} %, {done} of {self._total}, {elapsed} elapsed"
            if self._pace:
                line += self._paced(now, done)
            self._waiting = f"{line}  {note}" if note else line
            if now - self._printed >= LINE_SECONDS:
                self._print_line()
                self._from, self._silent = (now, done), False

    def _paced(self, now: float, done: int) -> str:
        """The time left and the pace, where any is known."""
        since, first = self._from or (now, done)
        if now <= since or done <= first:
            return ""
        pace = (done - first) / (now - since)
        left = timedelta(seconds=round((self._total - done) / pace))
        told = f"{pace:.3g} a second" if pace >= 1 else f"{1 / pace:.3g} s each"
        return f", {left} left, {told}"

    def _print_line(self) -> None:
        if self._waiting is not None:
            err_console().print(one_line(self._waiting), markup=False, soft_wrap=True)
            self._waiting, self._printed = None, time.monotonic()

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


class Phases:
    """A bar for each phase of a long work, one after the other.

    Args:
        hidden: show nothing.
    """

    def __init__(self, *, hidden: bool = False) -> None:
        self._hidden = hidden
        self._phase = ""
        self._steps: Steps | None = None

    def __enter__(self) -> Phases:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Take the bar of the phase away, which is done."""
        if self._steps is not None:
            self._steps.__exit__()
        self._steps = None

    def show(self, phase: str, done: int, total: int) -> None:
        """So many steps of a phase are done."""
        if self._steps is None or phase != self._phase:
            self.close()
            self._phase = phase
            self._steps = Steps(phase, total=total, hidden=self._hidden)
            self._steps.__enter__()
        self._steps.show(done)
