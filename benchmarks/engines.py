"""Other engines for the CPU, and eight-bit weights: would they beat PyTorch, and at what loss?

    pip install openvino nncf
    python benchmarks/engines.py                        # full size, random weights
    python benchmarks/engines.py --model masqclip-mini
    python benchmarks/engines.py --accuracy heldout     # of the shipped model on sticker scenes

The two halves of the model, proposer and masked CLIP, for one picture. All engines take turns in
one process, so that a busy machine slows all of them. An engine's loss is how far its outputs are
from PyTorch's in float32, relative to their size, and how often a mask's best of 150 random names
changes. Nothing of this is a part of the package: docs/speed.md says what was found and kept.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Annotated, Any

import cyclopts
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import reference
from masqclip.data.images import read_image
from masqclip.data.published import load_truth
from masqclip.evaluation.evaluate import evaluate
from masqclip.model import MasQClipModel
from masqclip.segmenter import Segmenter
from speed import PICTURE, SIZE, load

Run = Callable[..., Tensor]


class Tower(nn.Module):
    """Masked CLIP as one function of tensors."""

    def __init__(self, model: MasQClipModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor, mask_logits: Tensor) -> Tensor:
        """[1,Q,E] embeddings of masks over a frame of pixels in 0..255."""
        return self.model.encode_and_embed(pixels, mask_logits)[1].float()


class Proposer(nn.Module):
    """The proposer as one function of tensors: transformers' own, or ours."""

    def __init__(self, model: MasQClipModel, *, plain: bool) -> None:
        super().__init__()
        self.model = model
        self.plain = reference.PublishedFormulation(model) if plain else None
        if self.plain is not None:
            self.network = self.plain.mask2former  # registered, so that its weights are found

    def forward(self, pixels: Tensor) -> Tensor:
        """[1,Q,h,w] mask logits."""
        if self.plain is not None:
            return self.plain.propose(pixels).mask_logits
        seen = torch.ones_like(pixels[:, 0], dtype=torch.bool)
        return self.model.propose(pixels, seen).mask_logits.float()


def openvino_engine(part: nn.Module, inputs: tuple[Tensor, ...], how: str) -> Run:
    """A part as OpenVINO runs it: ``f32``, ``bf16`` or ``int8`` (weights only)."""
    import nncf
    import openvino

    graph = openvino.convert_model(
        part, example_input=inputs, input=[tuple(each.shape) for each in inputs]
    )
    if how == "int8":
        graph = nncf.compress_weights(graph)
    compiled = openvino.compile_model(
        graph, "CPU",
        {"INFERENCE_PRECISION_HINT": "bf16" if how == "bf16" else "f32",
         "INFERENCE_NUM_THREADS": torch.get_num_threads()},
    )  # fmt: skip
    return lambda *given: torch.from_numpy(
        next(iter(compiled([t.numpy() for t in given]).values()))
    )


def torch_int8(part: nn.Module) -> nn.Module:
    """Linear layers with eight-bit weights and activations quantised as they come."""
    return torch.ao.quantization.quantize_dynamic(deepcopy(part), {nn.Linear}, torch.qint8)


def accuracy(scenes: Path) -> None:
    """Print what the shipped model scores in each precision; int8 is that of CLIP's layers."""
    truth = load_truth("stickers", scenes)
    print("| precision | AP50 base | AP50 novel | PQ | mIoU |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for precision in ("float32", "bfloat16", "int8"):
        kept = "float32" if precision == "int8" else precision
        segmenter = Segmenter.from_pretrained("masqclip-mini", device="cpu", dtype=kept)
        if precision == "int8":
            clip = segmenter.model.clip
            clip.vision_model = torch_int8(clip.vision_model)
            segmenter.model.queries = torch_int8(segmenter.model.queries)
            for part in (clip.vision_model, segmenter.model.queries):
                part.state_dict = lambda *_, **__: {}  # which holds more than tensors there
        figures = evaluate(segmenter, truth, ["instance", "panoptic", "semantic"]).figures
        shown = [figures["instance"]["AP50 base"], figures["instance"]["AP50 novel"],
                 figures["panoptic"]["PQ"], figures["semantic"]["mIoU"]]  # fmt: skip
        print(f"| {precision} | " + " | ".join(f"{100 * value:.1f}" for value in shown) + " |")


@torch.inference_mode()
def main(
    *,
    model: str = "full",
    rounds: int = 5,
    threads: int = 2,
    accuracy_on: Annotated[Path | None, cyclopts.Parameter(name="--accuracy")] = None,
) -> None:
    """Measure, and print Markdown.

    Args:
        model: ``full`` (published sizes, random weights), or what `Segmenter` loads.
        rounds: measured runs of each engine, after one that shows whether it runs.
        threads: of every engine.
        accuracy_on: a folder of sticker scenes; print the shipped model's scores there instead.
    """
    torch.set_num_threads(threads)
    if accuracy_on is not None:
        accuracy(accuracy_on)
        return
    cpu = torch.device("cpu")
    exact = load(model, cpu, torch.float32).model
    rounded = load(model, cpu, torch.bfloat16).model
    image = torch.from_numpy(read_image(PICTURE).pixels).permute(2, 0, 1)[None].float()
    size = (SIZE[0], SIZE[1] + -SIZE[1] % 32) if model == "full" else (128, 128)
    pixels = F.interpolate(image, size, mode="bilinear")
    proposals = Proposer(exact, plain=False)(pixels)
    print("| part | engine | ms | to PyTorch float32 | error | another best name |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    for name, inputs, parts in (
        ("masked CLIP", (pixels, proposals), (Tower(exact), Tower(rounded), Tower(exact))),
        (
            "proposer",
            (pixels,),
            (
                Proposer(exact, plain=False),
                Proposer(rounded, plain=False),
                Proposer(exact, plain=True),
            ),
        ),
    ):
        compare(name, inputs, engines(inputs, *parts), rounds)


def engines(
    inputs: tuple[Tensor, ...], exact: nn.Module, rounded: nn.Module, traced: nn.Module
) -> dict[str, Run]:
    """All that can run this part; one that fails is named."""
    makers: dict[str, Callable[[], Any]] = {
        "PyTorch float32": lambda: exact,
        "PyTorch bfloat16": lambda: rounded,
        "PyTorch int8, dynamic": lambda: torch_int8(exact),
        "OpenVINO float32": lambda: openvino_engine(traced, inputs, "f32"),
        "OpenVINO bfloat16": lambda: openvino_engine(traced, inputs, "bf16"),
        "OpenVINO int8 weights": lambda: openvino_engine(traced, inputs, "int8"),
    }
    found: dict[str, Run] = {}
    for name, make in makers.items():
        try:
            found[name] = make()
            found[name](*inputs)
        except Exception as error:  # whatever an engine raises, the others are measured
            found.pop(name, None)
            print(f"{name} does not run: {type(error).__name__}: {str(error).splitlines()[0]}")
    return found


def compare(part: str, inputs: tuple[Tensor, ...], found: dict[str, Run], rounds: int) -> None:
    """Time the engines in turns and print a row for each."""
    seconds: dict[str, list[float]] = {name: [] for name in found}
    outputs: dict[str, Tensor] = {}
    for _ in range(rounds):
        for name, run in found.items():
            started = time.perf_counter()
            outputs[name] = run(*inputs)
            seconds[name].append(time.perf_counter() - started)
    exact = outputs["PyTorch float32"]
    torch.manual_seed(0)
    names = F.normalize(torch.randn(150, exact.shape[-1]), dim=-1)
    base = statistics.median(seconds["PyTorch float32"])
    for name, output in outputs.items():
        took = statistics.median(seconds[name])
        error = float((output - exact).norm() / exact.norm())
        best = [F.normalize(each[0], dim=-1) @ names.T for each in (output, exact)]
        moved = (best[0].argmax(-1) != best[1].argmax(-1)).float().mean()
        changed = f"{float(moved):.0%}" if part == "masked CLIP" else "-"
        figures = f"{1000 * took:.0f} | {base / took:.2f} x | {error:.1e} | {changed}"
        print(f"| {part} | {name} | {figures} |")


if __name__ == "__main__":
    cyclopts.run(main)
