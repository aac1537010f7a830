"""How fast masqclip is, stage by stage, beside the published formulation on the same weights.

    python benchmarks/speed.py                          # full size, this machine's CPU
    python benchmarks/speed.py --model masqclip-mini --picture examples/beach.png
    python benchmarks/speed.py --device cuda --dtype bfloat16 --batch 1 --batch 8
    python benchmarks/speed.py --costs                  # against size, proposals, names, batch
    python benchmarks/speed.py --agreement scenes/images --dtype bfloat16
    python benchmarks/speed.py --profile                # the top costs of one call

Both sides run in turns in one process, so that a busy machine slows both; of every stage the median
of the rounds is reported. Peak memory comes from a fresh process for each side. The random masks of
a random model would make decoding too easy or too hard, so its input is borrowed: the shipped
model's masks of a picture, at the size and number of the model under test.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import cyclopts
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

import reference
from cost_model import measure_costs, peak, reset_peak
from masqclip.clip.vocabulary import Vocabulary
from masqclip.data.images import find_images, read_image
from masqclip.decoding.instance import decode_instance
from masqclip.decoding.panoptic import decode_panoptic
from masqclip.decoding.semantic import decode_semantic
from masqclip.devices import choose_device, choose_dtype
from masqclip.encoding import EncodedImage, encode_pictures
from masqclip.segmenter import Segmenter
from models import full_size
from speed_report import write_report

PICTURE = Path(__file__).parents[1] / "examples" / "beach.png"
SIZE = (640, 853)
Side = Literal["ours", "reference"]


def load(model: str, device: torch.device, dtype: torch.dtype) -> Segmenter:
    """A shipped model, a folder, or ``full``: the published sizes with random weights."""
    torch.manual_seed(0)
    if model == "full":
        segmenter = full_size(shortest_edge=640)
    else:
        segmenter = Segmenter.from_pretrained(model, device=device, dtype=dtype)
    segmenter.model.to(device, dtype).requires_grad_(False)
    return segmenter


class Clock:
    """Seconds of each stage, round by round."""

    def __init__(self, device: torch.device) -> None:
        self.cuda = device.type == "cuda"
        self.seconds: dict[str, list[float]] = {}
        self.processor: dict[str, list[float]] = {}

    def time(self, stage: str, run: Callable[[], Any]) -> Any:
        """Run a stage, and keep how long it took."""
        self._wait()
        started, worked = time.perf_counter(), time.process_time()
        result = run()
        self._wait()
        self.seconds.setdefault(stage, []).append(time.perf_counter() - started)
        self.processor.setdefault(stage, []).append(time.process_time() - worked)
        return result

    def _wait(self) -> None:
        if self.cuda:
            torch.cuda.synchronize()

    def medians(self, *, processor: bool = False) -> dict[str, float]:
        """Median seconds by the clock or of the processor; the first round has warmed up."""
        kept = self.processor if processor else self.seconds
        stages = {name: statistics.median(values[1:]) for name, values in kept.items()}
        for task in ("semantic", "instance", "panoptic"):
            parts = ("read", "proposer", "masked CLIP", task)
            stages[f"whole, {task}"] = sum(stages[part] for part in parts)
        return stages


class Subject:
    """A picture, its frame and the borrowed input of the decoders."""

    def __init__(self, segmenter: Segmenter, picture: Path, names: str) -> None:
        self.segmenter, self.model = segmenter, segmenter.model
        self.plain = reference.PublishedFormulation(segmenter.model)
        pixels = Image.fromarray(read_image(picture).pixels)
        if segmenter.name == "full size":
            pixels = pixels.resize(SIZE[::-1])
        self.file = Path(os.environ.get("TMPDIR", "/tmp")) / f"masqclip-speed-{os.getpid()}.png"
        pixels.save(self.file)
        self.image = read_image(self.file)
        self.words = Vocabulary.parse(names)
        self.encoded, self.log_probs = self._borrow()

    @torch.inference_mode()
    def _borrow(self) -> tuple[EncodedImage, Tensor]:
        mini = Segmenter.from_pretrained("masqclip-mini", device="cpu", dtype="float32")
        seen = mini.encode(read_image(PICTURE))
        rows = mini.text.embed_vocabulary(self.words)
        classes = mini.model.classify(seen.mask_embeddings[None], rows, len(self.words))[0]
        log_probs = seen.object_logits.log_softmax(-1)[:, :1] + classes
        own = encode_pictures(mini.model, [self.image])[0] if self.model is mini.model else None
        height, width = self.image.height, self.image.width
        frame = (height + -height % 32, width + -width % 32)
        queries = self.model.proposer.config.num_queries
        copies = -(-queries // len(log_probs))
        size = (frame[0] // 4, frame[1] // 4)
        masks = F.interpolate(seen.mask_logits[None], size, mode="bilinear")[0]
        masks = torch.cat([masks.roll((31 * i, 17 * i), (1, 2)) for i in range(copies)])[:queries]
        device = self.segmenter.device
        encoded = EncodedImage(
            self.image, masks.to(device), seen.object_logits, seen.mask_embeddings,
            seen.tokens if own is None else own.tokens, frame, (height, width),
        )  # fmt: skip
        return encoded, log_probs.repeat(copies, 1)[:queries].to(device)

    @torch.inference_mode()
    def embed(self, side: Side) -> Tensor:
        """Mask embeddings of the borrowed masks, to be compared.

        Random proposers differ by what rounding makes of them: their masks are noise about zero.
        """
        frame = reference.frame_picture(self.image.pixels, self.model.config)[0]
        pixels, masks = frame[None].to(self.model.device), self.encoded.mask_logits[None]
        if side == "reference":
            return self.plain.embed(pixels, masks).float()
        return self.model.encode_and_embed(pixels, masks)[1].float()

    @torch.inference_mode()
    def run(self, side: Side, clock: Clock) -> None:
        """One round of all stages."""
        image = clock.time("read", lambda: read_image(self.file))
        ours, model = side == "ours", self.model
        frame, inside = reference.frame_picture(image.pixels, model.config)
        pixels = frame[None].to(model.device)
        mask = torch.zeros_like(pixels[:, 0], dtype=torch.bool)
        mask[:, : inside[0], : inside[1]] = True
        if ours:
            proposals = clock.time("proposer", lambda: model.propose(pixels, mask))
            clock.time(
                "masked CLIP",
                lambda: model.encode_and_embed(pixels, proposals.mask_logits),
            )
        else:
            proposals = clock.time("proposer", lambda: self.plain.propose(pixels))
            clock.time("masked CLIP", lambda: self.plain.embed(pixels, proposals.mask_logits))
        self._decode(side, clock)

    def _decode(self, side: Side, clock: Clock) -> None:
        for task, run in self.decoders(side).items():
            clock.time(task, run)

    def decoders(self, side: Side) -> dict[str, Callable[[], Any]]:
        """What decodes the borrowed masks, by task."""
        encoded, log_probs, stuff = self.encoded, self.log_probs, self.words.stuff_ids
        if side == "ours":
            return {
                "semantic": lambda: decode_semantic(encoded.masks, log_probs),
                "instance": lambda: decode_instance(encoded.masks, log_probs),
                "panoptic": lambda: decode_panoptic(
                    encoded.masks, log_probs, stuff_ids=stuff, object_threshold=0.05
                ),
            }
        full = reference.full_masks
        return {
            "semantic": lambda: reference.semantic(full(encoded), log_probs),
            "instance": lambda: reference.instance(full(encoded), log_probs),
            "panoptic": lambda: reference.panoptic(full(encoded), log_probs, stuff, 0.05),
        }


def compare(subjects: dict[Side, Subject], rounds: int) -> dict[str, Any]:
    """Both sides in turns: medians, ratios, and how far their results are apart."""
    clocks: dict[Side, Clock] = {}
    for _ in range(rounds + 1):
        for side, subject in subjects.items():
            clock = clocks.setdefault(side, Clock(subject.segmenter.device))
            subject.run(side, clock)
    embeddings = {side: subject.embed(side) for side, subject in subjects.items()}
    torch.manual_seed(1)
    texts = F.normalize(torch.randn(150, embeddings["ours"].shape[-1]), dim=-1)
    logits = {s: 100 * F.normalize(e.cpu(), dim=-1) @ texts.T for s, e in embeddings.items()}
    result: dict[str, Any] = {
        "logit difference": float((logits["ours"] - logits["reference"]).abs().max())
    }
    for side, clock in clocks.items():
        result[side] = clock.medians()
        result[f"{side}, processor"] = clock.medians(processor=True)
    return result


def ceiling(device: torch.device, dtype: torch.dtype, size: int = 0) -> float:
    """FLOP/s of a large matrix product, the best of ten."""
    size = size or (8192 if device.type == "cuda" else 1536)
    a = torch.randn(size, size, device=device, dtype=dtype)
    clock = Clock(device)
    for _ in range(10):
        clock.time("product", lambda: a @ a)
    return 2 * size**3 / min(clock.seconds["product"])


@torch.inference_mode()
def count_flops(subject: Subject, side: Side = "ours") -> dict[str, float]:
    """FLOPs of the two halves of a side, as PyTorch counts them."""
    model, plain, ours = subject.model, subject.plain, side == "ours"
    pixels = reference.frame_picture(subject.image.pixels, model.config)[0][None].to(model.device)
    mask = torch.ones_like(pixels[:, 0], dtype=torch.bool)
    counts = {}
    with FlopCounterMode(display=False) as counter:
        proposals = model.propose(pixels, mask) if ours else plain.propose(pixels)
    counts["proposer"] = float(counter.get_total_flops())
    with FlopCounterMode(display=False) as counter:
        if ours:
            model.encode_and_embed(pixels, proposals.mask_logits)
        else:
            plain.embed(pixels, proposals.mask_logits)
    counts["masked CLIP"] = float(counter.get_total_flops())
    return counts


def peak_memory(side: Side, arguments: tuple[Any, ...], queue: Any) -> None:
    """In a process of its own: bytes that one picture needs beyond the weights."""
    model, device, dtype, picture, names, threads = arguments
    torch.set_num_threads(threads)
    subject = Subject(load(model, device, dtype), picture, names)
    before = reset_peak()
    subject.run(side, Clock(device))
    queue.put(peak() - before)


def agreement(folder: Path, device: torch.device, dtype: torch.dtype, scenes: int) -> float:
    """The share of pixels on which panoptic maps in `dtype` are those in float32."""
    exact = Segmenter.from_pretrained("masqclip-mini", device=device, dtype="float32")
    rounded = Segmenter.from_pretrained("masqclip-mini", device=device, dtype=dtype)
    shares = []
    for path in find_images([folder])[:scenes]:
        maps = []
        for segmenter in (exact, rounded):
            found = segmenter(path, "stickers")
            named = np.full(found.image.shape[:2], -1)
            for segment in found.segments:
                named[segment.mask] = segment.class_id
            maps.append(named)
        shares.append(float((maps[0] == maps[1]).mean()))
    return statistics.mean(shares)


def top_costs(subject: Subject) -> str:
    """A table of the operators that one call of ours spends its time in."""
    activities = [ProfilerActivity.CPU]
    if subject.segmenter.device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    subject.run("ours", Clock(subject.segmenter.device))
    with profile(activities=activities) as run:
        subject.run("ours", Clock(subject.segmenter.device))
    key = "self_cuda_time_total" if len(activities) > 1 else "self_cpu_time_total"
    return run.key_averages().table(sort_by=key, row_limit=20, max_name_column_width=44)


def main(
    *,
    model: str = "full",
    device: str = "cpu",
    dtype: str = "float32",
    reference_dtype: str = "float32",
    picture: Path = PICTURE,
    names: str = "ade20k-847",
    rounds: int = 5,
    threads: int = 2,
    batch: Annotated[list[int] | None, cyclopts.Parameter(negative=())] = None,
    memory: bool = True,
    costs: bool = False,
    profile: bool = False,
    agreement_on: Annotated[Path | None, cyclopts.Parameter(name="--agreement")] = None,
    scenes: int = 50,
    out: Path = Path("speed"),
) -> None:
    """Measure, and write OUT.md, OUT.json and OUT.svg.

    Args:
        model: ``full`` (published sizes, random weights), or what `Segmenter` loads.
        device: cpu or cuda.
        dtype: float32 or bfloat16, of ours.
        reference_dtype: of the published formulation, which is published in float32.
        picture: what is segmented; for ``full`` at 640 x 853.
        names: the vocabulary whose masks are decoded.
        rounds: measured runs of each side, after one to warm up.
        threads: of PyTorch.
        batch: also measure these batch sizes, ours only.
        memory: measure peak memory in processes of their own.
        costs: also measure and fit costs against image size, proposals, names and batch.
        profile: print the top costs instead of measuring.
        agreement_on: a folder of sticker scenes; print how the dtype's panoptic maps agree with
            float32's instead of measuring.
        scenes: how many of them.
        out: the reports' path, without an ending.
    """
    torch.set_num_threads(threads)
    where = choose_device(device)
    precision = choose_dtype(dtype, where)
    if agreement_on is not None:
        print(f"{dtype}: {agreement(agreement_on, where, precision, scenes):.4%} of pixels agree")
        return
    subject = Subject(load(model, where, precision), picture, names)
    if profile:
        print(top_costs(subject))
        return
    plain_precision = choose_dtype(reference_dtype, where)
    plain = subject
    if plain_precision != precision:
        plain = Subject(load(model, where, plain_precision), picture, names)
    result = compare({"reference": plain, "ours": subject}, rounds)
    del plain
    result["settings"] = {
        "model": model, "device": device, "dtype": dtype,
        "reference dtype": reference_dtype, "names": len(subject.words),
        "picture": [subject.image.height, subject.image.width], "threads": threads,
        "rounds": rounds, "torch": torch.__version__, "processor": platform.processor(),
        "gpu": torch.cuda.get_device_name() if where.type == "cuda" else None,
    }  # fmt: skip
    result["ceiling"] = ceiling(where, precision)
    result["flops"] = count_flops(subject)
    if costs or batch:
        result["costs"] = measure_costs(subject.segmenter, subject, batch or (1, 2, 4), all_=costs)
    if memory:
        result["memory"] = {}
        del subject
        context = multiprocessing.get_context("spawn")
        for side, kept in (("reference", plain_precision), ("ours", precision)):
            queue = context.Queue()
            arguments = (model, where, kept, picture, names, threads)
            process = context.Process(target=peak_memory, args=(side, arguments, queue))
            process.start()
            result["memory"][side] = queue.get()
            process.join()
    write_report(result, out)
    print(out.with_suffix(".md").read_text())
    print(
        f"peak of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.1f} GB"
    )
    out.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    cyclopts.run(main)
