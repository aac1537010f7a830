"""Measure a model on a dataset: predict, then score, one picture at a time.

    truth = load_truth("stickers", Path("heldout"))
    report = evaluate(Segmenter.from_pretrained(), truth, ("instance", "semantic", "panoptic"))
    report.figures["panoptic"]["PQ"]

Predictions always pass through a `PredictionFolder`, so that a stopped run goes on, processes can
share the work, and `score` can be called again without the model.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from masqclip.clip.name_limits import DEFAULT_LIMITS
from masqclip.clip.saved_vocabulary import from_json, to_json
from masqclip.clip.vocabulary import Vocabulary
from masqclip.data.coco_truth import check_picture
from masqclip.data.digests import digest_tensors
from masqclip.data.locks import lock_folder
from masqclip.data.truth import TASKS, GroundTruth, Picture, digest, files_version
from masqclip.errors import MasqclipError
from masqclip.evaluation.predictions import PredictionFolder
from masqclip.evaluation.processes import Processes
from masqclip.evaluation.protocol import Protocol, fingerprint, published_protocol
from masqclip.evaluation.report import Report
from masqclip.evaluation.scorers import make_scorer
from masqclip.evaluation.vocabularies import dataset_vocabulary

if TYPE_CHECKING:
    from masqclip.segmenter import Segmenter

#: What can be measured: tasks, and one half of the model at a time.
ORACLES = ("masks", "classes")
# What an entry that is not as COCO writes it ends in.
_MISFITS = (KeyError, TypeError, AttributeError, ValueError, IndexError, ArithmeticError)
_CHECKERS = 8  # threads, for what a file system takes its time for
#: Called with the phase ("checking", "predicting", "scoring"), the pictures done, and of how many.
Progress = Callable[[str, int, int], None]


def evaluate(
    segmenter: Segmenter,
    truth: GroundTruth,
    tasks: Sequence[str],
    *,
    words: Vocabulary | None = None,
    protocol: Protocol | None = None,
    folder: str | Path | None = None,
    processes: Processes | None = None,
    report: Progress | None = None,
) -> Report:
    """Predict and score.

    Args:
        segmenter: the model.
        truth: the dataset.
        tasks: ``instance``, ``semantic``, ``panoptic``, or an oracle: ``masks`` names the true
            masks, ``classes`` compares the proposals with them whatever their names.
        words: a category for each class (`match_vocabulary`); the published ones by default.
        protocol: the dataset's published one by default.
        folder: where predictions stay; none = they do not.
        processes: which of several this one is; those pictures are predicted and scored here.
        report: progress.

    Raises:
        MasqclipError: the dataset has no annotations for a task, a picture or an annotation cannot
            be read, the folder holds predictions of another kind, or another process fills it.
    """
    words = words or dataset_vocabulary(truth)
    if folder is None:
        with tempfile.TemporaryDirectory() as scratch:
            return evaluate(
                segmenter,
                truth,
                tasks,
                words=words,
                protocol=protocol,
                folder=scratch,
                processes=processes,
                report=report,
            )
    from masqclip.evaluation.predict import Predictor, seen_at

    _check_tasks(truth, tasks)
    check_system(segmenter, tasks)
    if len(words) != len(truth.classes):
        raise MasqclipError(
            f"the words are {len(words)} categories, {truth.name} has {len(truth.classes)} classes:"
            " give one for each (match_vocabulary)"
        )
    segmenter.text.check(words)
    for task in tasks:  # a library that is missing is told before hours of predicting
        make_scorer(task, truth)
    resolved = (protocol or published_protocol(truth.name)).resolved(segmenter.model.config)
    processes = processes or Processes()
    share = _share(truth, processes)
    check_pictures(truth, share, report, needed=True)
    predictions = PredictionFolder(Path(folder))
    model = {"name": segmenter.name, "version": _model_version(segmenter)}
    # The first process holds the folder for all of them.
    with lock_folder(folder) if processes.first else nullcontext():
        predictions.claim(make_manifest(model, truth, words, resolved, tasks))
        predictor = Predictor(segmenter, truth, words, resolved, tasks, predictions)
        with seen_at(segmenter, resolved):
            for done, picture in enumerate(share, start=1):
                predictor.predict(picture)
                if report is not None:
                    report("predicting", done, len(share))
    return _score(predictions, truth, tasks, processes, report)


def score(
    predictions: PredictionFolder,
    truth: GroundTruth,
    tasks: Sequence[str] = (),
    *,
    processes: Processes | None = None,
    report: Progress | None = None,
) -> Report:
    """Score predictions that are there, without the model.

    Args:
        predictions: of every picture of `truth`.
        truth: what they are compared with.
        tasks: those to score; all that were predicted by default.
        processes: see `evaluate`.
        report: progress.

    Raises:
        MasqclipError: predictions are missing, or were made for other pictures or classes; or
            pictures or their maps are not as the annotations say.
    """
    processes = processes or Processes()
    check_pictures(truth, _share(truth, processes), report, needed=False)
    return _score(predictions, truth, tasks, processes, report)


def _score(
    predictions: PredictionFolder,
    truth: GroundTruth,
    tasks: Sequence[str],
    processes: Processes,
    report: Progress | None,
) -> Report:
    manifest = predictions.manifest()
    tasks = tuple(tasks) or tuple(manifest["tasks"])
    _check_tasks(truth, tasks)
    words = _words_of(manifest, truth)
    hashes = {}
    for task in tasks:
        if task not in manifest["tasks"]:
            raise MasqclipError(f"{predictions.path} holds no predictions for {task!r}")
        try:
            made_by = Protocol(**manifest["tasks"][task]["protocol"])
        except TypeError as error:
            raise MasqclipError(
                f"{predictions.path} says nothing of the protocol that masqclip knows ({error}): "
                "predict again"
            ) from error
        hashes[task] = fingerprint(task, truth, words, made_by)
    scorers = {task: make_scorer(task, truth) for task in tasks}
    quality: dict[str, dict[int, float]] = {task: {} for task in tasks}
    share = _share(truth, processes)
    for done, picture in enumerate(share, start=1):
        for task, scorer in scorers.items():
            if not predictions.has(task, picture.id):
                raise MasqclipError(
                    f"{predictions.path} lacks the {task} prediction of picture {picture.id}: "
                    "predict again, and what is there is kept"
                )
            try:
                quality[task][picture.id] = scorer.add(predictions, picture)
            except MasqclipError:
                raise
            except _MISFITS as error:
                raise MasqclipError(
                    f"the {task} prediction or annotation of {picture.path.name} cannot be used "
                    f"({type(error).__name__}: {error}): mend the one, or delete the other and "
                    "predict again"
                ) from error
        if report is not None:
            report("scoring", done, len(share))
    metrics = {task: scorer.metric for task, scorer in scorers.items()}
    for index, (theirs, their_quality) in enumerate(processes.gather((metrics, quality))):
        if index != processes.index:
            for task in tasks:
                metrics[task].merge(theirs[task])
                quality[task] |= their_quality[task]
    return Report(
        dataset=truth.name,
        split=truth.split,
        pictures=len(truth.pictures),
        model=manifest["model"],
        hashes=hashes,
        protocols={task: manifest["tasks"][task]["protocol"] for task in tasks},
        figures={task: scorer.figures() for task, scorer in scorers.items()},
        classes=[
            {"id": entry.id, "name": entry.name, "thing": entry.thing, "split": entry.split}
            for entry in truth.classes
        ],
        per_class={
            task: {name: values.tolist() for name, values in scorer.per_class().items()}
            for task, scorer in scorers.items()
        },
        quality=quality,
    )


def make_manifest(
    model: Mapping[str, str],
    truth: GroundTruth,
    words: Vocabulary,
    protocol: Protocol,
    tasks: Sequence[str],
) -> dict[str, Any]:
    """What a `PredictionFolder` says it holds.

    Args:
        model: its ``name`` and ``version``.
        truth: the dataset.
        words: a category for each class.
        protocol: resolved.
        tasks: what is predicted.
    """
    return {
        "model": dict(model),
        "dataset": truth.name,
        "split": truth.split,
        "pictures": len(truth.pictures),
        "images": files_version(picture.path for picture in truth.pictures),
        "vocabulary": to_json(words.document()),
        "tasks": {
            task: {
                "hash": fingerprint(task, truth, words, protocol),
                "protocol": asdict(protocol),
            }
            for task in tasks
        },
    }


def _check_tasks(truth: GroundTruth, tasks: Sequence[str]) -> None:
    if isinstance(tasks, str):
        raise MasqclipError(f"the tasks are the string {tasks!r}: give a tuple, ({tasks!r},)")
    if not tasks:
        raise MasqclipError(f"no task is given: choose from {', '.join((*TASKS, *ORACLES))}")
    for task in tasks:
        if task not in (*truth.tasks, *ORACLES):
            offered = ", ".join((*truth.tasks, *ORACLES))
            raise MasqclipError(f"{truth.name} cannot be measured in {task!r}: choose {offered}")


def check_system(segmenter: Segmenter, tasks: Sequence[str]) -> None:
    """See that a model's system has the tasks it is to be measured in.

    Raises:
        MasqclipError: it has not.
    """
    has = system_tasks(segmenter, (*TASKS, *ORACLES))
    for task in tasks:
        if task not in has:
            raise MasqclipError(
                f"a model of the system {segmenter.model.system!r} cannot be measured in {task!r}: "
                f"choose {', '.join(has)}"
            )


def system_tasks(segmenter: Segmenter, tasks: Sequence[str]) -> tuple[str, ...]:
    """Those of some tasks and oracles that a model's system has."""
    model = segmenter.model
    has: set[str] = {*model.tasks}
    has |= {"masks"} if model.takes_masks else set()
    has |= {"classes"} if "instance" in model.tasks else set()  # it has masks before words
    return tuple(task for task in tasks if task in has)


def check_pictures(
    truth: GroundTruth, share: Sequence[Picture], report: Progress | None, *, needed: bool
) -> None:
    """See that pictures are as they are annotated, before hours go into them.

    Args:
        truth: the dataset.
        share: the pictures to look at.
        report: progress.
        needed: whether the pictures must be there.
    """
    lacking = [picture for picture in share if not os.path.isfile(picture.path)] if needed else []
    if lacking:
        raise MasqclipError(
            f"{len(lacking)} of {len(share)} pictures are not there, the first {lacking[0].path}: "
            "restore them, or say where they are"
        )
    with ThreadPoolExecutor(_CHECKERS) as checkers:
        checks = [checkers.submit(check_picture, truth, picture) for picture in share]
        try:
            for done, check in enumerate(checks, start=1):
                check.result()
                if report is not None:
                    report("checking", done, len(share))
        finally:
            for check in checks:
                check.cancel()


def _share(truth: GroundTruth, processes: Processes) -> Sequence[Picture]:
    return truth.pictures[processes.index :: processes.count]


def _words_of(manifest: Mapping[str, Any], truth: GroundTruth) -> Vocabulary:
    saved = manifest["vocabulary"]
    if len(saved["categories"]) != len(truth.classes):
        raise MasqclipError(
            f"the predictions are of {len(saved['categories'])} classes, {truth.name} "
            f"{truth.split} has {len(truth.classes)}: give the dataset that they were made for"
        )
    read = from_json(saved, source="the predictions' vocabulary", limits=DEFAULT_LIMITS)
    return Vocabulary.from_document(read)


def _model_version(segmenter: Segmenter) -> str:
    """A hash that tells models of one name apart: of every parameter's bits."""
    return digest(digest_tensors(segmenter.model.state_dict()))
