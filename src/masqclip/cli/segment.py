"""`masqclip segment`: pictures and names in; a table, an overlay and a JSON file each out."""

from __future__ import annotations

import json as json_module
import sys
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Parameter

from masqclip.cli.console import (
    Phases,
    Steps,
    print_error,
    print_found,
    print_left_out,
    print_line,
)
from masqclip.cli.models import (
    check_exported,
    check_parts,
    check_refine,
    check_size_option,
    fetch_models,
    load_any,
)
from masqclip.cli.output_files import (
    OutputFiles,
    UnwritableError,
    check_folder,
    plan_files,
    write_document,
    write_picture,
)
from masqclip.cli.pictures import (
    MAX_WAITING_PIXELS,
    explained,
    pixels_of,
    read_batches,
    segment_each,
)
from masqclip.cli.sources import PictureSource, find_sources
from masqclip.errors import MasqclipError
from masqclip.proposals.progress import listening

if TYPE_CHECKING:
    from masqclip.data.images import LoadedImage
    from masqclip.result import Segmentation
    from masqclip.runtime import OnnxSegmenter
    from masqclip.segmenter import Segmenter

Task = Literal["instance", "semantic", "panoptic"]

app = App(
    name="segment",
    usage="Usage: masqclip segment IMAGE... --vocabulary NAMES [OPTIONS]",
    help_epilogue="""\
**Examples**

```text
# every thing and every region that the names describe, in ./masqclip-out
masqclip segment street.jpg --vocabulary "car, person, road, sky"

# a folder and a glob, by the names of a built-in vocabulary
masqclip segment photos/ 'more/*.png' -v coco-panoptic --out results

# a mask for each cup and pen; bottles and bowls compete, but are not reported
masqclip segment desk.jpg -v "cup, pen" -t instance --not "bottle, bowl"

# any CLIP and any universal segmenter, untuned
masqclip segment street.jpg -v "car, road" --clip clip-l14-336 \\
    --proposer mask2former-swin-l-coco

# names from a text file, one a line; the result as JSON on stdout
masqclip segment field.jpg -v names.txt -t semantic --json | jq .segments

# a picture on the web, and one that another program writes
masqclip segment https://example.org/street.jpg -v "car, road"
curl -s https://example.org/field.jpg | masqclip segment - -v "sheep, grass"
```

**What is written**

For a picture cat.jpg: cat.TASK.png, the picture with the masks drawn on it, and cat.TASK.json, the
masks (COCO run lengths), names, scores and boxes. Earlier results of the same name are replaced.
Results of an address are called after its last part, those of what is piped in stdin.TASK.png.

**Exit code**

0 when every picture is segmented; 2 when something is wrong with an option or a picture. One bad
picture among many is named, whatever is wrong with it, and the others are still segmented; a full
disk or a folder that may not be written to ends the run.""",
)


@dataclass
class _Failures:
    """Pictures that could not be read or segmented, and telling of them; one alone is raised."""

    steps: Steps
    json: bool
    total: int
    names: list[str] = field(default_factory=list)
    read: bool = True  # so far all of them failed in reading

    def add(self, source: str, cause: Exception, *, read: bool = False) -> None:
        """Tell of a picture that failed, and count it.

        Raises:
            MasqclipError: it is the only one.
        """
        error = explained(source, cause)
        if self.total == 1:
            raise error from cause
        self.names.append(source)
        self.read &= read
        with self.steps.paused():
            print_error(str(error))
            if self.json:
                _print_json({"source": source, "error": str(error)})
        self.steps.advance()


@dataclass(frozen=True)
class _Written:
    """A result whose files are being written."""

    path: PictureSource
    result: Segmentation
    notes: tuple[str, ...]
    document: Future[dict[str, Any]]


@app.default
def segment(
    *images: Annotated[str, Parameter(name="IMAGE", required=True)],
    vocabulary: Annotated[str, Parameter(alias="-v", metavar="NAMES")],
    task: Annotated[Task, Parameter(alias="-t")] = "panoptic",
    model: Annotated[str, Parameter(alias="-m", metavar="NAME")] = "masqclip-mini",
    clip: Annotated[str | None, Parameter(metavar="NAME")] = None,
    proposer: Annotated[list[str] | None, Parameter(metavar="NAME")] = None,
    proposer_words: Literal["own", "vocabulary"] = "own",
    queries: Annotated[Path | None, Parameter(metavar="FILE")] = None,
    size: Annotated[str | None, Parameter(metavar="PIXELS")] = None,
    out: Annotated[Path, Parameter(alias="-o", metavar="DIR")] = Path("masqclip-out"),
    min_score: float | None = None,
    level: Annotated[int | None, Parameter(metavar="N")] = None,
    not_: Annotated[str, Parameter(name="--not", metavar="NAMES", show_default=False)] = "",
    stuff: Annotated[str, Parameter(metavar="NAMES", show_default=False)] = "",
    things: Annotated[str, Parameter(metavar="NAMES", show_default=False)] = "",
    template: Annotated[list[str] | None, Parameter(metavar="TEXT")] = None,
    refine: Annotated[list[str] | None, Parameter(metavar="NAME=VALUE")] = None,
    recursive: Annotated[bool, Parameter(alias="-r", show_default=False)] = False,
    overlay: Annotated[bool, Parameter(negative="--no-overlay", show_default=False)] = True,
    json: Annotated[bool, Parameter(show_default=False)] = False,
    quiet: Annotated[bool, Parameter(alias="-q", show_default=False)] = False,
    device: Annotated[str | None, Parameter(metavar="NAME")] = None,
    dtype: Literal["float32", "bfloat16", "float16"] | None = None,
    batch_size: Annotated[int, Parameter(metavar="N")] = 4,
    compile: Annotated[bool, Parameter(show_default=False)] = False,
) -> int:
    """Find what the names describe in pictures, and mask it.

    Args:
        images: Pictures, folders of pictures, and globs; http and https addresses of pictures; a
            dash (-) is a picture that is piped in.
        vocabulary: What to look for: names between commas (in double quotes where a name holds
            one), a built-in vocabulary ("masqclip info"), everything (all there is, unnamed, with
            the name that comes nearest as a guess), or a file: text (one name a line,
            synonyms after commas, "stuff:" before a region), or .csv, .json, .yaml, .toml or .xml
            as other tools write their classes.
        task: instance: a mask for each thing. semantic: a name for each pixel. panoptic: both,
            things counted and regions filled.
        model: masqclip-mini, which is shipped; photo or another preset, which is fetched first
            ("masqclip info --models"); a folder, also one that "masqclip export" wrote; or a name
            on the Hugging Face Hub.
        clip: Instead of a model, its two halves: the CLIP that names masks, a folder or a name
            ("masqclip info --models" lists some).
        proposer: The segmenter that finds masks: Mask2Former, MaskFormer, OneFormer, EoMT, SAM,
            SAM 2 or SAM 3; repeat it for several, whose masks are put together.
        proposer_words: What a SAM 3 looks for: things in general (own), or the names of the
            vocabulary, each of which takes a while.
        queries: A file that MasQ-Tuning made for this CLIP.
        size: The size at which pictures are seen, in place of the model's own: SHORTEST, the
            shorter side in pixels, or SHORTEST:LONGEST.
        out: The folder for the results; it is made when the first result is there.
        min_score: Leave out what scores less, 0 to 1; 0.3, or what the vocabulary says of a name,
            unless given.
        level: Of names that are kinds of others ("animal > dog, cat"), report what is at this level
            of the tree: 0 = the widest names.
        not_: Names that compete for masks and are never reported, between commas, or a file of
            names or examples.
        stuff: Names of the vocabulary that are regions, not countable things; sky, grass and what
            else everybody takes for a region need not be said.
        things: Names of the vocabulary that are counted, whatever else is said of them.
        template: A sentence to put each name into, such as "a photo of a {}."; repeat it for
            several, which are averaged. "tower" stands for those of the CLIP's own makers.
        refine: Read or name masks in another way than the published one, such as "prune=0.05";
            repeat it for several. docs/refinements.md says what there is, and what it is worth.
        recursive: Search folders with their sub-folders.
        overlay: Draw the masks on each picture and write that as PNG.
        json: Print one JSON document a picture on stdout, and nothing else there.
        quiet: Print errors only.
        device: cpu, cuda, cuda:1 or mps; the default is the best there is.
        dtype: The precision to compute in; the default suits the device.
        batch_size: Pictures at a time: more is faster and takes more memory.
        compile: Compile the model first: minutes for each size of picture, then faster; for
            thousands of pictures on a GPU.
    """
    from masqclip.options import check_count, check_share

    if min_score is not None:
        check_share(min_score, what="--min-score")
    check_count(batch_size, what="--batch-size")
    parts = check_parts(clip, proposer, queries)
    size = check_size_option(size)
    check_refine(refine or ())
    vocabulary_words = proposer_words == "vocabulary"
    exported = parts is None and check_exported(
        model, size=size, dtype=dtype, compile=compile, proposer_words=vocabulary_words
    )
    model = model if parts is None else " + ".join((parts[0], *parts[1]))
    from masqclip.clip.vocabulary import Vocabulary
    from masqclip.data.folders import LeftOut

    words = Vocabulary.parse(
        vocabulary, stuff=stuff, things=things, distractors=not_, templates=template
    )
    check_folder(out)
    left_out = LeftOut()
    paths, missing = find_sources(images, recursive=recursive, out=out, left_out=left_out)
    print_left_out(left_out, quiet=quiet)
    if parts is None:
        if not exported:
            fetch_models(model)
    else:
        fetch_models(clip=clip, proposer=proposer)
    total = len(paths) + len(missing)
    segmenter: Segmenter | OnnxSegmenter | None = None
    general: tuple[str, ...] = ()
    hidden = quiet or total == 1
    with (
        Steps("pictures", total=total, hidden=hidden, brief=True) as steps,
        Phases(hidden=quiet or total > 1) as bars,
        listening(partial(_show_points, steps, bars)),
    ):
        failures = _Failures(steps, json, total)
        told: set[str] = set()  # of all pictures: said once
        for source, error in missing.items():
            failures.add(source, error, read=True)
        files = dict(zip(paths, plan_files(paths, out, task), strict=True))

        def tell(written: _Written) -> None:
            try:
                document = written.document.result()
            except UnwritableError:
                raise
            except Exception as error:
                failures.add(str(written.path), error)
                return
            with steps.paused():
                if json:
                    _print_json(document)
                elif not quiet:
                    notes = [note for note in written.notes if note not in told]
                    print_found(str(written.path), written.result, notes)
                    told.update(general)
            steps.advance()

        def ask(pictures: Iterable[LoadedImage]) -> Iterable[Segmentation]:
            assert segmenter is not None
            return segmenter.stream(
                pictures, words, task, batch_size=batch_size, min_score=min_score, level=level
            )

        # Drawing and writing go on beside the model's work on the next pictures.
        with ThreadPoolExecutor(1, thread_name_prefix="write") as writer:
            waiting: deque[_Written] = deque()
            unread = partial(_refuse, failures)
            libraries = partial(_load_libraries, exported=exported)
            for batch in read_batches(paths, batch_size, unread, meanwhile=libraries):
                if segmenter is None:
                    with steps.paused():  # for a note
                        segmenter = load_any(
                            model, exported=exported, parts=parts, device=device, dtype=dtype,
                            size=size, refine=refine or (), quiet=quiet,
                            proposer_words=proposer_words, compile=compile,
                        )  # fmt: skip
                    general = segmenter.notes_on(words, task)
                for path, result in segment_each(batch, ask):
                    if isinstance(result, Exception):
                        failures.add(str(path), result)
                        continue
                    drawn = _overlay_notes(result) if overlay else ()
                    notes = tuple(dict.fromkeys((*batch[path].notes, *result.notes, *drawn)))
                    write = partial(_write, files[path], path, result, notes)
                    future = writer.submit(write, model=model, overlay=overlay)
                    waiting.append(_Written(path, result, notes, future))
                    del result
                    most = max(1, MAX_WAITING_PIXELS // max(1, pixels_of([batch[path]])))
                    while waiting and (
                        waiting[0].document.done() or len(waiting) > min(2 * batch_size, most)
                    ):
                        tell(waiting.popleft())
            while waiting:
                tell(waiting.popleft())
    if failures.names:
        raise MasqclipError(_summary(failures, out))
    if not json and not quiet:
        _print_written(list(files.values()), out, overlay)
    return 0


# Before: the pictures, the model


def _refuse(failures: _Failures, path: PictureSource, error: Exception) -> None:
    failures.add(str(path), error, read=True)


def _show_points(steps: Steps, bars: Phases, done: int, total: int) -> None:
    """How far a slow proposer is: a bar for a picture alone, among several a note beside theirs."""
    bars.show("points", done, total)
    steps.note(f"points {done} of {total}" if done < total else "")
    if done == total:
        bars.close()


def _load_libraries(*, exported: bool) -> None:
    if exported:
        import masqclip.runtime
    else:
        import masqclip.segmenter  # noqa: F401


# After: files and what is said of them


def _write(
    files: OutputFiles,
    path: PictureSource,
    result: Segmentation,
    notes: tuple[str, ...],
    *,
    model: str,
    overlay: bool,
) -> dict[str, Any]:
    """Write one picture's results; the JSON comes last, so where it is, the overlay is too."""
    with ThreadPoolExecutor(1, thread_name_prefix="draw") as pool:
        drawn = pool.submit(_draw, files.overlay, result) if overlay else None
        document = {"source": str(path), "model": model, **result.to_json(), "notes": list(notes)}
        document["overlay"] = str(files.overlay) if overlay else None
        if drawn is not None:
            drawn.result()
    write_document(files.document, document)
    return document


def _overlay_notes(result: Segmentation) -> tuple[str, ...]:
    from masqclip.render.overlay import overlay_notes

    return overlay_notes(result.told, result.names)


def _draw(path: Path, result: Segmentation) -> None:
    write_picture(path, result.plot())


def _print_json(document: dict[str, Any]) -> None:
    sys.stdout.write(json_module.dumps(document) + "\n")
    sys.stdout.flush()


def _print_written(files: list[OutputFiles], out: Path, overlay: bool) -> None:
    kinds = "overlays and JSON" if overlay else "JSON"
    if len(files) == 1:
        line = " and ".join(
            str(path) for path in (files[0].overlay if overlay else None, files[0].document) if path
        )
        line = f"written: {line}"
    else:
        line = f"{len(files)} pictures segmented; {kinds} in {out}"
    print_line(line)


def _summary(failures: _Failures, out: Path) -> str:
    failed, total = failures.names, failures.total
    shown = ", ".join(failed[:5]) + (", ..." if len(failed) > 5 else "")
    rest = f"; the other {total - len(failed)} in {out}" if len(failed) < total else ""
    what = "read" if failures.read else "segmented"
    return f"{len(failed)} of {total} pictures could not be {what}: {shown}{rest}"
