"""A model written as a folder of ONNX graphs, and compared with itself before it has its name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import Dim

from masqclip.data.files import check_replaced, new_folder, shared, writing
from masqclip.errors import MasqclipError, require
from masqclip.graphs.description import PROBES, signatures, write_settings
from masqclip.graphs.modules import ImageGraph, MasksGraph, TextGraph, picture_mask
from masqclip.graphs.refusals import check_exportable, fixed_frame
from masqclip.graphs.storage import Storage, store
from masqclip.graphs.tracing import OPSETS, to_onnx
from masqclip.hub.local import is_exported
from masqclip.model import MasQClipModel
from masqclip.proposals.eomt import EomtProposer
from masqclip.runtime.sessions import Sessions
from masqclip.runtime.settings import read_settings
from masqclip.runtime.tokens import Tokens
from masqclip.segmenter import Segmenter

DEFAULT_OPSET = OPSETS[0]
#: By how much what a graph gives may differ from the model where weights are stored as they are, in
#: parts of the largest number that the model gives.
TOLERANCE = 1e-3
_MOST = 65_536  # names, masks, and pixels of a side
_STEPS = ("image", "text", "masks", "storing", "comparing")


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        folder: where.
        bytes: of each file.
        differences: the greatest difference between what the graphs and the model give, by output.
    """

    folder: Path
    bytes: Mapping[str, int]
    differences: Mapping[str, float]


def export_model(
    segmenter: Segmenter,
    out: str | Path,
    *,
    opset: int = DEFAULT_OPSET,
    dynamic: bool = False,
    storage: Storage = "float32",
    frame: tuple[int, int] | None = None,
    report: Callable[[str, int, int], None] = lambda step, done, total: None,
) -> Exported:
    """Write a model as ONNX graphs for `masqclip.runtime.OnnxSegmenter` and other runtimes.

    The folder has its name only when all of it is there and the graphs gave what the model gives.

    Args:
        segmenter: of the system masqclip, with a Mask2Former or an EoMT; it is made float32, on the
            CPU.
        out: the folder; an earlier export there is replaced.
        opset: of ONNX.
        dynamic: leave the size of pictures open; else they are fitted into one frame.
        storage: of the weights: ``float32``, ``float16`` or ``int8``.
        frame: (H, W) of the only frame; a square of the model's shortest edge by default.
        report: is told what is done: a step, and how many of how many are behind it.

    Raises:
        MasqclipError: the model cannot be exported, a package is missing, `out` holds something
            else, or the graphs do not give what the model gives.
    """
    for package in ("onnx", "onnxscript", "onnxruntime"):
        require(package, extra="export", purpose="an export to ONNX")
    model = segmenter.model.to(device="cpu", dtype=torch.float32)
    segmenter.text.clear()
    check_exportable(model, dynamic=dynamic, opset=opset)
    if dynamic and frame is not None:
        raise MasqclipError("a frame is of one size, and dynamic leaves it open: give one of them")
    only = None if dynamic else fixed_frame(model, frame)
    check_replaced(Path(out), is_exported(out), what="export")
    with new_folder(out) as folder:
        makers = graphs_of(segmenter, only)
        graphs = {}
        for done, (name, graph) in enumerate(makers.items()):
            report(name, done, len(_STEPS))
            graphs[name] = graph.traced(opset)
        report("storing", 3, len(_STEPS))
        with writing(folder), shared(folder):
            store(graphs, folder, storage)
            del graphs
            segmenter.text.tokenizer.save_pretrained(folder)
            if segmenter.world is not None:
                segmenter.world.save(folder)
            outputs = makers["image"].outputs
            told = signatures(segmenter, outputs, only)
            write_settings(folder, segmenter, told, frame=only, storage=storage, opset=opset)
        report("comparing", 4, len(_STEPS))
        differences = _compare(segmenter, makers, folder, storage)
        sizes = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
    report("comparing", len(_STEPS), len(_STEPS))
    return Exported(Path(out), sizes, differences)


@dataclass(frozen=True)
class Graph:
    """A graph before it is traced.

    Attributes:
        module: what it computes.
        outputs: the names of what that gives.
        open: by input, the axes whose sizes are left open.
        examples: inputs by name; the first are traced, and all are compared.
    """

    module: nn.Module
    outputs: list[str]
    open: Mapping[str, Mapping[int, Any]]
    examples: list[dict[str, Tensor]]

    def traced(self, opset: int) -> Any:
        return to_onnx(
            self.module.eval(), self.examples[0], self.outputs, open=self.open, opset=opset
        )


def graphs_of(segmenter: Segmenter, frame: tuple[int, int] | None) -> dict[str, Graph]:
    """The graphs of a model, with frames of one size or of any."""
    model, text, world = segmenter.model, segmenter.text, segmenter.world
    test = None if world is None or world.pictures is None else world.pictures.block
    image = ImageGraph(model, test)
    frames = [frame, frame] if frame else _frames(segmenter)
    sides: dict[int, Any] = {}
    if frame is None:
        divisor = model.config.size_divisor
        most = max(2, _largest_side(model) // divisor)
        sides = {axis + 2: divisor * Dim(f"units{axis}", min=1, max=most) for axis in (0, 1)}
    batch = Dim("batch", max=_MOST)
    length: dict[int, Any] = {0: Dim("names", max=_MOST)}
    tokens = [text.words.pad(text.words.token_ids(list(names))) for names in (PROBES[:3], ["x"])]
    if tokens[0].shape[1] != tokens[1].shape[1]:
        length[1] = Dim("tokens", min=2, max=text.context_length)
    free = {
        axis: Dim(name, min=1, max=_MOST) for axis, name in enumerate(("masks", "rows", "cols"))
    }
    pictures = [_picture(size, count=2 - number) for number, size in enumerate(frames)]
    return {
        "image": Graph(
            image, image.outputs, {"pixels": {0: batch, **sides}, "size": {0: batch}}, pictures
        ),
        "text": Graph(
            TextGraph(text.words),
            ["text_embeddings"],
            {"token_ids": length},
            [{"token_ids": ids} for ids in tokens],
        ),
        "masks": Graph(
            MasksGraph(model),
            ["mask_embeddings"],
            {"pixels": sides, "masks": free},
            [_with_masks(picture, number) for number, picture in enumerate(pictures, start=2)],
        ),
    }


def _frames(segmenter: Segmenter) -> list[tuple[int, int]]:
    """Two frames that the model would make of pictures, one lying and one standing.

    The first is traced. torch.export takes a size of one unit for a fixed one, and one at which
    nothing is left of an EoMT's square as well.
    """
    from masqclip.encoding import frame_sizes

    config = segmenter.model.config
    lying, standing = (frame_sizes(*size, config)[1] for size in ((480, 640), (700, 480)))
    if isinstance(segmenter.model.proposer, EomtProposer):
        most = config.longest_edge - config.size_divisor
        lying = (min(lying[0], most), most)
    least = 2 * config.size_divisor
    return [(max(least, lying[0]), max(least, lying[1])), standing]


def _largest_side(model: MasQClipModel) -> int:
    """Of a frame, in pixels."""
    return model.config.longest_edge if isinstance(model.proposer, EomtProposer) else _MOST


def _picture(frame: tuple[int, int], *, count: int) -> dict[str, Tensor]:
    """Pictures of soft colours in a frame, the same at each call; a margin is no picture."""
    chance = torch.Generator().manual_seed(frame[0] * 7 + frame[1])
    coarse = torch.rand(count, 3, 6, 8, generator=chance) * 255
    pixels = F.interpolate(coarse, size=frame, mode="bicubic").clamp(0, 255)
    size = torch.tensor([[frame[0], frame[1] - frame[1] // 16]] * count)
    return {"pixels": pixels * picture_mask(pixels, size).unsqueeze(1), "size": size}


def _with_masks(picture: Mapping[str, Tensor], count: int) -> dict[str, Tensor]:
    """One picture, with masks on it at another size."""
    rows, columns = 90 + 10 * count, 120
    masks = torch.zeros(count, rows, columns, dtype=torch.uint8)
    for number, mask in enumerate(masks):
        mask[5 + 20 * number : 40 + 20 * number, 10 : 30 + 25 * number] = 1
    return {"pixels": picture["pixels"][:1], "size": picture["size"][:1], "masks": masks}


def _compare(
    segmenter: Segmenter, graphs: Mapping[str, Graph], folder: Path, storage: Storage
) -> dict[str, float]:
    """Run what was written, and compare it with the model.

    Raises:
        MasqclipError: it gives something else, or cuts texts otherwise.
    """
    settings = read_settings(folder)
    sessions, words = Sessions(settings), segmenter.text.words
    if Tokens(folder, settings.text).ids(PROBES) != words.token_ids(PROBES):
        raise MasqclipError(
            f"the tokenizer of a {segmenter.model.clip.config.model_type} cannot be exported: by "
            "itself it cuts texts otherwise"
        )
    differences: dict[str, float] = {}
    for name, graph in graphs.items():
        for example in graph.examples:
            with torch.inference_mode():
                expected = graph.module(*example.values())
            given = {key: value.numpy() for key, value in example.items()}
            found = sessions.run(name, given, graph.outputs)
            whole = expected if isinstance(expected, tuple) else (expected,)
            for output, ours, theirs in zip(graph.outputs, found, whole, strict=True):
                told = theirs.numpy()
                apart = float(np.abs(ours - told).max())
                key = f"{name}.{output}"
                differences[key] = max(differences.get(key, 0.0), apart)
                most = TOLERANCE * max(1.0, float(np.abs(told).max()))
                if storage == "float32" and not apart <= most:
                    raise MasqclipError(
                        f"the graph {name!r} gives {output} that is {apart:.2g} off the model's, "
                        f"more than {most:.2g}: this model cannot be exported"
                    )
    return differences
