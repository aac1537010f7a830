"""`masqclip batch`: millions of pictures through Ray Data, with results that survive any kill."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Parameter

from masqclip.cli.console import (
    Steps,
    one_line,
    print_error,
    print_left_out,
    print_line,
    print_notes,
)
from masqclip.cli.models import check_size_option, check_system, fetch_models, print_slow_dtype
from masqclip.cli.output_files import check_folder
from masqclip.errors import MasqclipError, require

if TYPE_CHECKING:
    from collections.abc import Iterator

    from masqclip.batch.items import Item
    from masqclip.batch.shards import JobFolder, JobSettings, Status
    from masqclip.data.folders import LeftOut

Task = Literal["instance", "semantic", "panoptic"]
DEFAULT_MODEL = "masqclip-mini"
SHOWN_FAILURES = 5

app = App(
    name="batch",
    usage="Usage: masqclip batch INPUT... --vocabulary NAMES --out DIR [OPTIONS]",
    help_epilogue="""\
**Examples**

```text
# a folder with all its sub-folders, on all of this machine's GPUs or cores
masqclip batch photos/ -v "car, person, road, stuff: sky" --out results

# the same command again goes on after any stop; how far is it?
masqclip batch --out results --status

# Parquet with paths or bytes, webdataset tars, a list of paths; here or in an
# object store
masqclip batch s3://bucket/photos.parquet -v coco-panoptic \\
    --out s3://bucket/results
masqclip batch 'shards/*.tar' -v names.txt --format coco --out results

# on a Ray cluster that is running; every node must see INPUT and DIR
masqclip batch s3://bucket/photos -v names.txt --out s3://bucket/results \\
    --ray-address auto

# keep the encoded pictures, and ask those for other names later
masqclip batch photos/ -v "car, person" --save-embeddings --out results
masqclip batch results -v "bicycle, dog" --out more-results
```

**What is written**

DIR/shards holds Parquet files (or COCO JSON) with a row a picture: key, height, width, error,
notes, segments (name, score, box, area, COCO run lengths). A picture that cannot be read is a row
with its error. A shard appears whole or not at all; a run that follows does what is missing and
gives the same bytes.

**Exit code**

0 when every shard is done; 2 when something is wrong with an option, when no picture at all could
be read, or when a shard failed three times and was set aside (--retry-failed tries it again); 130
when interrupted.""",
)


@app.default
def batch(
    *inputs: Annotated[str, Parameter(name="INPUT")],
    out: Annotated[str, Parameter(alias="-o", metavar="DIR")],
    vocabulary: Annotated[str | None, Parameter(alias="-v", metavar="NAMES")] = None,
    task: Annotated[Task, Parameter(alias="-t")] = "panoptic",
    model: Annotated[str | None, Parameter(alias="-m", metavar="NAME")] = None,
    min_score: float | None = None,
    level: Annotated[int | None, Parameter(metavar="N")] = None,
    not_: Annotated[str, Parameter(name="--not", metavar="NAMES", show_default=False)] = "",
    stuff: Annotated[str, Parameter(metavar="NAMES", show_default=False)] = "",
    things: Annotated[str, Parameter(metavar="NAMES", show_default=False)] = "",
    template: Annotated[list[str] | None, Parameter(metavar="TEXT")] = None,
    format: Literal["parquet", "coco"] = "parquet",
    overlay: Annotated[bool, Parameter(show_default=False)] = False,
    save_embeddings: Annotated[bool, Parameter(show_default=False)] = False,
    column: Annotated[str | None, Parameter(metavar="NAME")] = None,
    shard_size: Annotated[int, Parameter(metavar="N")] = 256,
    memory: Annotated[float, Parameter(metavar="GB")] = 1.0,
    max_file: Annotated[float, Parameter(metavar="MB")] = 256.0,
    allow_scheme: Annotated[list[str] | None, Parameter(metavar="NAME", show_default=False)] = None,
    workers: Annotated[int | None, Parameter(metavar="N")] = None,
    device: Annotated[str | None, Parameter(metavar="NAME")] = None,
    dtype: Literal["float32", "bfloat16", "float16"] | None = None,
    size: Annotated[str | None, Parameter(metavar="PIXELS")] = None,
    ray_address: Annotated[str | None, Parameter(metavar="ADDRESS")] = None,
    status: Annotated[bool, Parameter(show_default=False)] = False,
    verify: Annotated[bool, Parameter(show_default=False)] = False,
    accept_changes: Annotated[bool, Parameter(show_default=False)] = False,
    retry_failed: Annotated[bool, Parameter(show_default=False)] = False,
    quiet: Annotated[bool, Parameter(alias="-q", show_default=False)] = False,
) -> int:
    """Segment any number of pictures, on this machine or a Ray cluster, restartable at any moment.

    Args:
        inputs: Folders (with their sub-folders), globs, text files with a path a line, Parquet
            files with paths or bytes, webdataset tars, or the folder of a job that saved
            embeddings; local or on any file system that fsspec knows (s3://, gs://, hdfs://).
            Left out, the job in --out goes on as it was asked for.
        out: The folder for the results, local or an address.
        vocabulary: What to look for, as "masqclip segment" takes it. With --save-embeddings it may
            be left out.
        task: instance: a mask for each thing. semantic: a name for each pixel. panoptic: both.
        model: A model of this package, a folder, or a name on the Hugging Face Hub; masqclip-mini
            unless given, and for embeddings the model that made them.
        min_score: Leave out what scores less, 0 to 1; 0.3 unless given.
        level: Of names that are kinds of others ("animal > dog, cat"), report what is at this level
            of the tree: 0 = the widest names.
        not_: Names that compete for masks and are never reported, between commas, or a file of
            names or examples.
        stuff: Names of the vocabulary that are regions, not countable things; sky, grass and what
            else everybody takes for a region need not be said.
        things: Names of the vocabulary that are counted, whatever else is said of them.
        template: A sentence to put each name into; repeat it for several, which are averaged.
            "tower" stands for those of the CLIP's own makers.
        format: Of the shards: Parquet tables, or COCO JSON files.
        overlay: Draw the masks on each picture as well: DIR/overlays/SHARD.
        save_embeddings: Keep the encoded pictures in DIR/embeddings.
        column: Of a Parquet input, the column of paths or bytes.
        shard_size: Pictures a shard: what one output file holds.
        memory: Gigabytes that a batch may take in a worker; it decides how many pictures go
            through the model together.
        max_file: Megabytes; a picture with a larger file is a row with an error.
        allow_scheme: Follow addresses of this scheme too, such as https, in lists and tables; else
            only files, s3, gs, az, abfs and hdfs. Repeat it for several.
        workers: Models that encode at a time; one a GPU, or without GPUs one a core, unless given.
        device: cpu or cuda; the default is a GPU for each worker where there are GPUs.
        dtype: The precision to compute in; the default suits the device.
        size: The size at which pictures are seen, in place of the model's own: SHORTEST, the
            shorter side in pixels, or SHORTEST:LONGEST.
        ray_address: A Ray cluster to run on: auto, or HOST:PORT of its head.
        status: Say what is done, failed and left, and the time left; do nothing.
        verify: Compare the bytes of all results with their digests, not only their sizes; what is
            damaged is done again, or with --status only said.
        accept_changes: Go on although pictures changed since the job was planned; those that are
            not done are read as they are now.
        retry_failed: Try the shards again that were set aside.
        quiet: Print errors only.
    """
    require("pyarrow", extra="batch", purpose="masqclip batch")
    _check_numbers(min_score, shard_size, memory, max_file, workers)
    from masqclip.batch.shards import JobFolder
    from masqclip.data.folders import LeftOut

    left_out = LeftOut()
    folder = JobFolder(out, accept_changes=accept_changes)
    if status:
        _print_status(folder.status(verify=verify), out)
        return 0
    if folder.store.is_local:
        check_folder(Path(folder.store.root))
    there = folder.read()[0] if folder.is_planned() or not inputs else None
    if inputs:
        settings, items = _settings(
            inputs,
            there,
            left_out,
            vocabulary=_words(vocabulary, stuff, things, not_, template, save_embeddings),
            model=model,
            column=column,
            dtype=dtype,
            size=check_size_option(size),
            task=task,
            min_score=min_score,
            level=level,
            format=format,
            overlay=overlay,
            save_embeddings=save_embeddings,
            shard_size=shard_size,
            memory=memory,
            max_file=max_file,
            schemes=tuple(allow_scheme or ()),
        )
    from masqclip.batch.job import Machines, run_job
    from masqclip.batch.locks import lock_job

    machines = Machines(ray_address, workers, device)
    with lock_job(folder.store):
        if inputs and folder.is_planned():
            folder.check(settings)
        elif inputs:
            folder.plan(settings, items)
            print_left_out(left_out, quiet=quiet)
        if there is not None:
            _check(folder, there, verify=verify)
        if retry_failed:
            folder.retry()
        if ray_address is None:  # a cluster's machines may have other devices
            print_slow_dtype(device, folder.read()[0].dtype, quiet=quiet)
        if folder.missing():
            _print_notes(folder.read()[0], here=ray_address is None, quiet=quiet)
        with Steps("shards", total=folder.read()[1], hidden=quiet) as steps:
            end = run_job(folder, machines, steps.show)
    if end.failed:
        raise MasqclipError(_failures(end, out))
    if end.errors == end.images_done:
        raise MasqclipError(
            f"none of the {end.images_done:,} pictures could be read; the rows in {out} say why of "
            "each: check the input, and name another folder to begin anew"
        )
    if not quiet:
        _print_status(end, out)
    return 0


def _print_notes(settings: JobSettings, *, here: bool, quiet: bool) -> None:
    """What is to be said of a job's names, whatever the pictures."""
    from masqclip.hub import model_folders
    from masqclip.own_world import load_world, vocabulary_notes
    from masqclip.render.overlay import numbering_notes

    words = settings.vocabulary
    if words is None:
        return
    folder, *more = model_folders(settings.model)
    world = None if more else load_world(folder)  # parts are of no small world
    print_notes(vocabulary_notes(words, settings.task, world), quiet=quiet)
    if settings.overlay and here:  # a cluster's machines may have other fonts
        print_notes(numbering_notes(words.names), quiet=quiet)


def _check_numbers(
    min_score: float | None, shard_size: int, memory: float, max_file: float, workers: int | None
) -> None:
    from masqclip.options import check_count, check_share

    if min_score is not None:
        check_share(min_score, what="--min-score")
    check_count(shard_size, what="--shard-size")
    if memory <= 0:
        raise MasqclipError(f"--memory {memory:g}: give gigabytes, more than 0")
    if max_file <= 0:
        raise MasqclipError(f"--max-file {max_file:g}: give megabytes, more than 0")
    if workers is not None:
        check_count(workers, what="--workers")


def _words(
    vocabulary: str | None,
    stuff: str,
    things: str,
    distractors: str,
    templates: list[str] | None,
    save_embeddings: bool,
) -> Any:
    if vocabulary is None:
        if save_embeddings:
            return None
        raise MasqclipError("no names given: --vocabulary says what to look for")
    from masqclip.clip.vocabulary import Vocabulary

    return Vocabulary.parse(
        vocabulary, stuff=stuff, things=things, distractors=distractors, templates=templates
    )


def _settings(
    inputs: tuple[str, ...],
    there: JobSettings | None,
    left_out: LeftOut,
    *,
    model: str | None,
    **options: Any,
) -> tuple[JobSettings, Iterator[Item]]:
    """What is asked for, with what the inputs know themselves; and its pictures, to be planned."""
    from masqclip.batch.inputs import list_items
    from masqclip.batch.shards import JobFolder, JobSettings
    from masqclip.data.digests import digest_model
    from masqclip.hub import model_folders

    items: Iterator[Item] = iter(())
    if there is not None:
        kind = there.kind
    else:
        kind, items = list_items(inputs, options["column"], options["schemes"], left_out)
    if kind == "embeddings":
        made = JobFolder(inputs[0]).read()[0]
        if model not in (None, made.model):
            raise MasqclipError(
                f"{inputs[0]}: these embeddings are of the model {made.model}, not of {model}"
            )
        if options["overlay"] or options["save_embeddings"]:
            raise MasqclipError(
                f"{inputs[0]}: embeddings hold no pictures; leave --overlay and "
                "--save-embeddings to the job that reads the pictures"
            )
        if options["size"] not in (None, made.size):
            raise MasqclipError(
                f"{inputs[0]}: these embeddings were made with --size "
                f"{made.size or 'left out'}, not {options['size']}: leave it out"
            )
        model, options["dtype"], options["size"] = made.model, made.dtype, made.size
        # A shard holds what its embeddings hold, and pictures are numbered by it.
        options["shard_size"] = max(JobFolder(name).read()[0].shard_size for name in inputs)
    model = model or DEFAULT_MODEL
    fetch_models(model)
    check_system(model, None if options["vocabulary"] is None else options["task"], masks=True)
    weights: str | None = digest_model(*model_folders(model))
    if kind == "embeddings" and made.weights not in (None, weights):
        raise MasqclipError(
            f"{inputs[0]}: these embeddings were made by other weights under the same name "
            f"({model}); give the folder of those weights"
        )
    if there is not None and there.weights is None:  # planned by a version that did not ask
        weights = None
    return JobSettings(inputs=inputs, kind=kind, model=model, weights=weights, **options), items


def _check(folder: JobFolder, there: JobSettings, *, verify: bool) -> None:
    """See, before a job goes on, that all is what it was: weights, plan, pictures, and results."""
    from masqclip.data.digests import digest_model
    from masqclip.hub import model_folders

    if there.weights is not None:
        folder.check(replace(there, weights=digest_model(*model_folders(there.model))))
    folder.check_plan()
    damage = folder.repair(verify=verify)
    for shard, reason in list(damage.items())[:SHOWN_FAILURES]:
        print_error(f"shard {shard} is done again: {reason}", kind="warning: ")
    if len(damage) > SHOWN_FAILURES:
        print_error(f"and {len(damage) - SHOWN_FAILURES} more shards", kind="warning: ")
    if (missing := folder.missing()) and not folder.accept_changes:
        folder.check_pictures(missing)


def _print_status(status: Status, out: str) -> None:
    bad = f", {status.errors:,} of them could not be read" if status.errors else ""
    time = status.seconds_left
    lines = [
        f"done    {status.done:,} of {status.shards:,} shards: {status.images_done:,} of "
        f"{status.images:,} pictures{bad}",
        f"failed  {len(status.failed):,}",
        *(
            [f"damaged {len(status.damaged):,}: the same command does them again"]
            if status.damaged
            else []
        ),
        f"left    {status.left:,}",
    ]
    if status.left:
        words = "not known yet" if time is None else f"about {timedelta(seconds=round(time))}"
        lines.append(f"time    {words}, at the pace of the last minutes of work")
    for line in [*lines, *_named(status.failed), *_named(status.damaged)]:
        print_line(line)
    print_line(f"in      {out}")


def _named(shards: dict[int, str]) -> list[str]:
    shown = list(shards.items())[:SHOWN_FAILURES]
    more = len(shards) - len(shown)
    lines = [f"  shard {shard}: {one_line(reason)}" for shard, reason in shown]
    return lines + ([f"  and {more} more"] if more else [])


def _failures(status: Status, out: str) -> str:
    reasons = "; ".join(line.strip() for line in _named(status.failed))
    return (
        f"{len(status.failed)} of {status.shards} shards failed three times and were set aside "
        f"({reasons}); the others are in {out}; --retry-failed tries them again"
    )
