"""What `gpu.py` measures with a model in memory: the forward pass and two kinds of training steps.

Everything runs in a process of `gpu_worker.py`. On CUDA nothing is timed without waiting for the
device before and after, and figures of memory are those of PyTorch's allocator: the most that was
in use at once, weights included.
"""

from __future__ import annotations

import gc
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

import tuning
from gpu_worker import one_line
from masqclip.acceleration import compile_model
from masqclip.data.open_coco import CocoMasks
from masqclip.devices import choose_dtype
from masqclip.encoding import frame_picture
from masqclip.proposals.base import Proposals
from masqclip.proposals.mask2former import resnet50_mask2former_config
from masqclip.training.loop import Trainer
from masqclip.training.settings import LoopSettings, TeacherSettings
from masqclip.training.stage import to_device
from masqclip.training.teacher import TeacherStage
from models import tiny as tiny_segmenter
from models import tiny_proposer_config
from speed import PICTURE, Clock, Side, Subject, ceiling, count_flops, load

_SIDES: tuple[Side, Side] = ("ours", "reference")
_MASKS = 12  # annotated in a random picture
Figures = dict[str, Any]
Run = Callable[[Clock], None]


def measuring(part: str, device: str, *, tiny: bool) -> Callable[..., Figures]:
    """The function that measures pieces of a part: options in, figures out."""
    where = torch.device(device)
    kinds: dict[str, Callable[[torch.device, bool], Callable[..., Figures]]] = {
        "speed": Speed,
        "tuning": TuningSteps,
        "proposer": ProposerSteps,
    }
    measure = kinds[part](where, tiny)

    def with_machine(**options: Any) -> Figures:
        return measure(**options) | machine(where)

    return with_machine


def machine(device: torch.device) -> Figures:
    """What a figure was measured on."""
    cuda = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if cuda else "cpu",
        "torch": torch.__version__,
        # float32 is rounded to these on the way into convolutions and matrix products.
        "tf32": {
            "convolutions": cuda and torch.backends.cudnn.allow_tf32,
            "matrix products": cuda and torch.backends.cuda.matmul.allow_tf32,
        },
    }


class Speed:
    """The forward pass of a batch, from frames to decoded pictures, ours and as published.

    Args:
        device: where.
        tiny: with tiny models.
    """

    def __init__(self, device: torch.device, tiny: bool) -> None:
        self.device, self.tiny = device, tiny
        self._dtype: torch.dtype | None = None
        self._subject: Subject | None = None
        self._flops: dict[str, dict[str, float]] = {}

    def __call__(self, *, dtype: str, batch: int, mode: str) -> Figures:
        """Both sides in turns.

        Args:
            dtype: of both.
            batch: pictures.
            mode: ``eager``, ``compiled`` (ours) or ``reference compiled`` (the other); the latter
                two change the model and are this process's last.
        """
        precision = choose_dtype(dtype, self.device)
        subject = self._prepare(precision)
        backend = "eager" if self.tiny else "inductor"
        if mode == "compiled":
            compile_model(subject.model, backend=backend)
        elif mode == "reference compiled":
            _compile_reference(subject.plain, self.device, backend)
        frame, inside = frame_picture(subject.image.pixels, subject.model.config)
        pixels = frame[None].to(self.device).repeat(batch, 1, 1, 1)
        mask = torch.zeros_like(pixels[:, 0], dtype=torch.bool)
        mask[:, : inside[0], : inside[1]] = True
        # A graph is recorded in the second round and replayed from the third on.
        warm = 1 if self.tiny else 2 if mode == "eager" else 4
        with torch.inference_mode():
            runs: dict[str, Run] = {s: _forward(subject, s, pixels, mask) for s in _SIDES}
            sides = _in_turns(runs, self.device, warm=warm, rounds=1 if self.tiny else 7)
        if mode != "eager":  # the graphs of one side lie in memory while the other runs
            sides["reference" if mode == "compiled" else "ours"].pop("peak", None)
        flops = {
            side: {half: batch * count for half, count in counts.items()}
            for side, counts in self._flops.items()
        }
        return {
            "picture": [subject.image.height, subject.image.width],
            "names": len(subject.words),
            "ceiling": ceiling(self.device, precision, 256 if self.tiny else 0),
            "flops": flops,
            "sides": sides,
        } | ({} if mode == "eager" else {"compiling": _compiling()})

    def _prepare(self, precision: torch.dtype) -> Subject:
        """The model in a precision, and what a picture costs it."""
        if self._subject is not None and self._dtype == precision:
            return self._subject
        self._subject = None  # gone before the next one comes
        if self.tiny:
            torch.manual_seed(0)
            segmenter = tiny_segmenter()
            segmenter.model.to(self.device, precision).requires_grad_(False)
        else:
            segmenter = load("full", self.device, precision)
        with tempfile.TemporaryDirectory() as folder:
            picture = PICTURE
            if self.tiny:
                picture = Path(folder) / "tiny.png"
                Image.open(PICTURE).resize((85, 64)).save(picture)
            subject = Subject(segmenter, picture, "stickers" if self.tiny else "ade20k-847")
        subject.file.unlink()  # it is in memory
        self._flops = {side: count_flops(subject, side) for side in _SIDES}
        self._subject, self._dtype = subject, precision
        return subject


def _forward(subject: Subject, side: Side, pixels: Tensor, mask: Tensor) -> Run:
    """All stages of a batch, timed one by one."""
    model, plain = subject.model, subject.plain
    decoders = subject.decoders(side)

    def propose() -> Proposals:
        return model.propose(pixels, mask) if side == "ours" else plain.propose(pixels)

    def embed(masks: Tensor) -> Any:
        if side == "ours":
            return model.encode_and_embed(pixels, masks)
        return plain.embed(pixels, masks)

    def run(clock: Clock) -> None:
        if clock.cuda:  # what the last round's graphs wrote is not read any more
            torch.compiler.cudagraph_mark_step_begin()
        proposals = clock.time("proposer", propose)
        clock.time("masked CLIP", lambda: embed(proposals.mask_logits))
        for task, decode in decoders.items():
            clock.time(task, partial(_repeat, decode, len(pixels)))

    return run


def _repeat(decode: Callable[[], Any], count: int) -> None:
    """Decode so many pictures, one after another, as results are."""
    for _ in range(count):
        decode()


def _compile_reference(plain: Any, device: torch.device, backend: str) -> None:
    """Compile the published formulation in place, as `compile_model` does ours."""
    options: dict[str, Any] = {"dynamic": False, "backend": backend}
    if device.type == "cuda" and backend == "inductor":
        options["mode"] = "reduce-overhead"
    propose, embed = torch.compile(plain.propose, **options), torch.compile(plain.embed, **options)

    def propose_kept(pixels: Tensor) -> Proposals:
        found = propose(pixels)
        # A graph writes its next results over these.
        return Proposals(found.mask_logits.clone(), found.object_logits.clone())

    plain.propose = propose_kept
    plain.embed = lambda pixels, masks: embed(pixels, masks).clone()


def _compiling() -> dict[str, int]:
    """What became of compiling: how many graphs, how often one ended early, how many CUDA graphs
    were not recorded."""
    from torch._dynamo.utils import counters

    return {
        "graphs": counters["stats"]["unique_graphs"],
        "breaks": sum(counters["graph_break"].values()),
        "CUDA graphs skipped": counters["inductor"]["cudagraph_skips"],
    }


def _in_turns(runs: dict[str, Run], device: torch.device, *, warm: int, rounds: int) -> Figures:
    """Medians and peak memory of each side; of one that cannot run, why.

    Raises:
        Exception: none of them can run.
    """
    clocks: dict[str, Clock] = {}
    peaks: dict[str, int] = {}
    failed: dict[str, str] = {}
    first: Exception | None = None
    for number in range(warm + rounds):
        for side in [side for side in runs if side not in failed]:
            if number in (0, warm):  # what came before was to warm up
                clocks[side] = Clock(device)
            tuning.reset_peak(device)
            try:
                runs[side](clocks[side])
            except Exception as error:
                failed[side] = one_line(error)
                # Its frames hold what it had asked for.
                first = first or error.with_traceback(None)
            if side in failed and device.type == "cuda":
                gc.collect()
                torch.cuda.empty_cache()
            peaks[side] = max(peaks.get(side, 0), tuning.peak_memory(device))
    if first is not None and len(failed) == len(runs):
        raise first
    return {
        side: {"error": failed[side]}
        if side in failed
        else {
            "seconds": {
                stage: statistics.median(kept) for stage, kept in clocks[side].seconds.items()
            },
            "peak": peaks[side],
        }
        for side in runs
    }


class TuningSteps:
    """Steps of MasQ-Tuning, of `tuning.py`: ours, and the published formulation written plainly.

    Args:
        device: where.
        tiny: one layer and few masks.
    """

    def __init__(self, device: torch.device, tiny: bool) -> None:
        self.device, self.tiny = device, tiny

    def __call__(self, *, precision: str, batch: int, side: str) -> Figures:
        """Steps a second and memory of a side."""
        masks, layers, steps = (4, 1, 1) if self.tiny else (100, 24, 5)
        bf16 = precision == "bfloat16"
        return tuning.run_side(side, batch, masks, layers, steps, self.device, bf16=bf16)


class ProposerSteps:
    """Steps of the teacher's training: the trainer's own, on random pictures in memory.

    Args:
        device: where.
        tiny: a tiny proposer on small frames.
    """

    def __init__(self, device: torch.device, tiny: bool) -> None:
        self.device, self.tiny = device, tiny

    def __call__(self, *, precision: str, batch: int) -> Figures:
        """Steps a second, memory and the last loss. Reading pictures is left out."""
        settings = TeacherSettings(batch_size=batch, filter_empty=False)
        if self.tiny:
            settings = replace(settings, image_size=64, num_points=64)
        stage = _RandomTeacher(settings, tiny=self.tiny)
        steps = 1 if self.tiny else 5
        rounded = "bf16" if precision == "bfloat16" else "no"
        loop = LoopSettings(steps=steps + 1, precision=rounded)
        kind = "cpu" if self.device.type == "cpu" else None
        trainer = Trainer(stage, loop, kind)
        ready = to_device(stage.batch(0), self.device)
        start = tuning.current_memory(self.device)
        tuning.reset_peak(self.device)
        times, losses = [], []
        for step in range(steps + 1):
            started = time.perf_counter()
            losses.append(trainer.step(step, [ready])["loss"])
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            times.append(time.perf_counter() - started)
        return {
            "side": settings.image_size,
            "masks": _MASKS,
            "steps_per_second": 1 / statistics.median(times[1:]),  # the first one warms up
            "start": start,
            "peak": tuning.peak_memory(self.device),
            "losses": losses,
        }


class _RandomTeacher(TeacherStage):
    """The teacher with the published settings, random weights, pictures and masks."""

    def __init__(self, settings: TeacherSettings, *, tiny: bool) -> None:
        pictures = cast(CocoMasks, _Pictures())
        config = tiny_proposer_config() if tiny else resnet50_mask2former_config()
        super().__init__(pictures, config, settings)

    def _load_weights(self) -> None:
        """Frozen batch norms without a trained backbone are as fast as with one."""

    def batch(self, step: int, share: Any = None) -> dict[str, Any]:
        """As the stage's own, in shape and kind."""
        count, side = self.settings.batch_size, self.settings.image_size
        generator = torch.Generator().manual_seed(step)
        # Smooth noise: blobs of all sizes, as masks are.
        noise = torch.randn(count, _MASKS, 8, 8, generator=generator)
        blobs = F.interpolate(noise, size=(side, side), mode="bilinear") > 0.5
        return {
            "pixels": torch.randn(count, 3, side, side, generator=generator),
            "masks": [found[found.flatten(1).any(1)] for found in blobs],
            "seeds": list(range(count)),
            "skipped": [],
        }


class _Pictures:
    """What a stage asks of its data before it reads any."""

    folder = "random pictures"
    notes = ()

    def __len__(self) -> int:
        return 1
