"""An exported model beside the model: what differs, what it takes, how fast it is, how good.

    python benchmarks/onnx_graphs.py parity held-out [--scenes 50]
    python benchmarks/onnx_graphs.py full mask2former-r50
    python benchmarks/onnx_graphs.py stored held-out [--scenes 500]
    python benchmarks/onnx_graphs.py speed

`held-out` are scenes that no training used: masqclip data stickers --sprites sprites --images 500
--seed 1000 --out held-out. `parity` compares numbers and panoptic maps of the shipped model on
them, with five vocabularies of 1 to 10,000 names. `full` does so for a model of published size and
random weights, ViT-L/14 at 336 pixels with one of `matrix.py`'s proposers, on two sizes of picture
out of one graph. `stored` exports the shipped model in each way in which weights are stored, and
measures bytes, seconds and AP50. `speed` has PyTorch, onnxruntime and OpenVINO take turns.

Graphs lie in a scratch folder; a model of full size takes 4 GB there, and 12 GB of memory.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from transformers import CLIPConfig, CLIPModel
from transformers.initialization import no_init_weights

from masqclip import Segmentation, Segmenter, Vocabulary
from masqclip.clip.vocabulary import builtin_vocabularies, load_builtin
from masqclip.data.published import load_truth
from masqclip.evaluation.instance import AveragePrecision
from masqclip.evaluation.vocabularies import dataset_vocabulary
from masqclip.export.coco import masks_to_rle
from masqclip.graphs.export import export_model
from masqclip.graphs.storage import Storage
from masqclip.model import MasQClipModel
from masqclip.runtime import OnnxSegmenter
from masqclip.towers.tokenizer import load_tokenizer
from matrix import draw_weights, proposers

_WORDS = "rocket, tulip, car, snake, penguin, stuff: sand, stuff: grass"
_PICTURES = ((480, 640), (700, 500))  # (height, width)


def exported(segmenter: Segmenter, folder: Path, storage: Storage = "float32") -> OnnxSegmenter:
    """A model's graphs, for pictures of any size."""
    started = time.perf_counter()
    done = export_model(segmenter, folder, dynamic=True, storage=storage)
    size = sum(done.bytes.values()) / 1e6
    print(f"exported {storage}: {size:.1f} MB, {time.perf_counter() - started:.0f} s", flush=True)
    return OnnxSegmenter.from_pretrained(folder)


def numbers_apart(model: Segmenter, graphs: OnnxSegmenter, picture: Any) -> dict[str, float]:
    """The greatest differences of what the two take from a picture."""
    one, other = model.encode(picture), graphs.encode(picture)
    return {
        name: float(np.abs(getattr(one, name).numpy() - getattr(other, name)).max())
        for name in ("mask_logits", "object_logits", "mask_embeddings")
    }


def same_pixels(one: Segmentation, other: Segmentation) -> float:
    """The share of pixels that two panoptic results give to a segment of the same name."""
    return float(np.mean(one.label_map == other.label_map))


def vocabularies() -> dict[str, Vocabulary]:
    """Five, of 1 to 10,000 names."""
    many = list(dict.fromkeys(n for key in builtin_vocabularies() for n in load_builtin(key).names))
    made = [f"{first} {second}" for first in many[:120] for second in many[:120]]
    return {
        "1": Vocabulary.parse(["rocket"]),
        "7": Vocabulary.parse(_WORDS),
        "149": load_builtin("stickers"),
        "1,000": Vocabulary.parse(many[:1_000]),
        "10,000": Vocabulary.parse(list(dict.fromkeys(many + made))[:10_000]),
    }


def parity(scenes: Path, count: int, folder: Path) -> None:
    """The shipped model."""
    model = Segmenter.from_pretrained("masqclip-mini", device="cpu")
    graphs = exported(model, folder / "mini")
    pictures = [picture.path for picture in load_truth("stickers", scenes).first(count).pictures]
    worst: dict[str, float] = {}
    shares = {name: [] for name in vocabularies()}
    alike = dict.fromkeys(shares, 0)
    for path in pictures:
        for name, apart in numbers_apart(model, graphs, path).items():
            worst[name] = max(worst.get(name, 0.0), apart)
        encoded = model.encode(path), graphs.encode(path)
        for name, words in vocabularies().items():
            one, other = model(encoded[0], words), graphs(encoded[1], words)
            shares[name].append(same_pixels(one, other))
            alike[name] += one.labels == other.labels
    print(f"{len(pictures)} scenes, greatest differences: {worst}")
    for name, found in shares.items():
        print(
            f"{name} names: {100 * min(found):.3f} % of panoptic pixels equal at least, "
            f"{100 * np.mean(found):.4f} % in the mean; the same segments in {alike[name]} scenes"
        )


def full(proposer: str, folder: Path) -> None:
    """A model of published size."""
    vision = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
              "num_attention_heads": 16, "image_size": 336, "patch_size": 14}  # fmt: skip
    text = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12}
    with no_init_weights():
        config = CLIPConfig(vision_config=vision, text_config=text, projection_dim=768)
        clip = draw_weights(CLIPModel(config))
    joined = MasQClipModel.from_parts(clip, lively(proposers()[proposer]()))
    model = Segmenter(joined, load_tokenizer(), name=f"ViT-L/14-336 + {proposer}")
    graphs = exported(model, folder / "full")
    chance = np.random.default_rng(0)
    for height, width in _PICTURES:
        coarse = chance.integers(0, 256, (height // 20, width // 20, 3), np.uint8)
        picture = coarse.repeat(20, axis=0).repeat(20, axis=1)
        apart = numbers_apart(model, graphs, picture)
        spread = float(model.encode(picture).mask_logits.std())
        # Random weights are sure of nothing: whatever wins is reported.
        results = [one(picture, _WORDS, min_score=0.0) for one in (model, graphs)]
        seconds = [_seconds(partial(one.encode, picture)) for one in (model, graphs)]
        print(
            f"{proposer}, {width} x {height}: mask logits spread by {spread:.1f}; {apart}; "
            f"{100 * same_pixels(*results):.3f} % of panoptic pixels equal, {len(results[0])} "
            f"segments; PyTorch {seconds[0]:.2f} s, onnxruntime {seconds[1]:.2f} s",
            flush=True,
        )


def lively(proposer: Any) -> Any:
    """A Mask2Former of random weights whose proposals differ, and whose logits spread as those of a
    trained one do: else all masks are one, and what is theirs is decided by rounding."""
    chance = torch.Generator().manual_seed(0)
    pixels = torch.nn.functional.interpolate(
        torch.randn(1, 3, 8, 8, generator=chance), size=(256, 256), mode="bicubic"
    )
    module = proposer.segmenter.model.transformer_module
    with torch.no_grad():
        for queries in (module.queries_features, module.queries_embedder):
            queries.weight.normal_(generator=chance)
    embedder = proposer.segmenter.model.transformer_module.decoder.mask_predictor.mask_embedder
    last = [part for part in embedder.modules() if isinstance(part, torch.nn.Linear)][-1]
    with torch.inference_mode():
        found = proposer(pixels)
    with torch.no_grad():
        for layer, logits in (
            (last, found.mask_logits),
            (proposer.segmenter.class_predictor, found.object_logits),
        ):
            layer.weight.mul_(5 / float(logits.std()))
    return proposer


def stored(scenes: Path, count: int, folder: Path) -> None:
    """AP50 of the ways in which weights are stored."""
    model = Segmenter.from_pretrained("masqclip-mini", device="cpu")
    truth = load_truth("stickers", scenes).first(count)
    words = dataset_vocabulary(truth)
    kinds: tuple[Storage, ...] = ("float32", "float16", "int8")
    graphs = {kind: exported(model, folder / kind, kind) for kind in kinds}
    for kind, one in [("PyTorch", model), *graphs.items()]:
        precision = AveragePrecision([c.id for c in truth.classes])
        started = time.process_time()
        for picture in truth.pictures:
            found = one(picture.path, words, "instance", min_score=0.0)
            rles = masks_to_rle(found.masks)
            results = [
                {
                    "image_id": picture.id,
                    "category_id": truth.classes[segment.class_id].id,
                    "score": segment.score,
                    "segmentation": rle,
                }
                for segment, rle in zip(found, rles, strict=True)
            ]
            image = {"id": picture.id, "height": found.size[0], "width": found.size[1]}
            precision.update(image, truth.instances_of(picture), results)
        spent = (time.process_time() - started) / len(truth.pictures)
        encode = _seconds(partial(one.encode, truth.pictures[0].path))
        print(
            f"{kind}: AP50 {100 * precision.results()['AP50']:.2f}, AP "
            f"{100 * precision.results()['AP']:.2f}, {1000 * spent:.0f} ms of the processor a "
            f"scene in all, {1000 * encode:.1f} ms to encode one",
            flush=True,
        )


def speed(folder: Path, rounds: int) -> None:
    """Three engines in turns, over the shipped model and an example picture."""
    import openvino

    model = Segmenter.from_pretrained("masqclip-mini", device="cpu")
    graphs = exported(model, folder / "mini")
    picture = Path(__file__).parents[1] / "examples" / "beach.png"
    from masqclip.data.images import read_image

    frame, inside = graphs._frame(read_image(picture))
    inputs = {"pixels": frame[None], "size": np.array([inside], np.int64)}
    names = list(graphs.settings.outputs["image"])
    vino = openvino.compile_model(folder / "mini" / "image.onnx", "CPU")
    pixels, whole = torch.from_numpy(frame)[None], torch.ones(1, *frame.shape[1:], dtype=torch.bool)

    def torch_run() -> None:
        with torch.inference_mode():
            model.model.see(pixels, whole)

    runs: dict[str, Callable[[], object]] = {
        "PyTorch": torch_run,
        "onnxruntime": lambda: graphs._sessions.run("image", inputs, names),
        "OpenVINO": lambda: vino(inputs),
    }
    spent: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run()
    for _ in range(rounds):
        for name, run in runs.items():
            started = time.perf_counter()
            run()
            spent[name].append(time.perf_counter() - started)
    reference = graphs._sessions.run("image", inputs, names[:3])
    found = vino(inputs)
    apart = [
        float(np.abs(found[name] - one).max()) for name, one in zip(names, reference, strict=False)
    ]
    for name, seconds in spent.items():
        share = median(seconds) / median(spent["PyTorch"])
        print(f"{name}: {1000 * median(seconds):.1f} ms, {share:.2f} of PyTorch's")
    print(f"OpenVINO is at most {max(apart):.1g} off onnxruntime")


def _seconds(run: Callable[[], object], rounds: int = 3) -> float:
    run()
    found = []
    for _ in range(rounds):
        started = time.perf_counter()
        run()
        found.append(time.perf_counter() - started)
    return median(found)


def main(tokens: Sequence[str] | None = None) -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for name, count in (("parity", 50), ("stored", 500)):
        command = commands.add_parser(name)
        command.add_argument("held_out", type=Path)
        command.add_argument("--scenes", type=int, default=count)
    commands.add_parser("full").add_argument("proposer", choices=proposers())
    commands.add_parser("speed").add_argument("--rounds", type=int, default=30)
    given = parser.parse_args(tokens)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if given.command == "parity":
            parity(given.held_out, given.scenes, folder)
        elif given.command == "full":
            full(given.proposer, folder)
        elif given.command == "stored":
            stored(given.held_out, given.scenes, folder)
        else:
            speed(folder, given.rounds)


if __name__ == "__main__":
    main()
