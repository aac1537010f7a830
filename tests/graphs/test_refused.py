"""What cannot be exported is refused in one line, before anything is traced."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from transformers import EomtConfig

from masqclip import MasqclipError, Segmenter
from masqclip.cli.main import main
from masqclip.clip.mask_coverage import patch_weights
from masqclip.graphs.export import Graph, _compare, export_model, graphs_of
from masqclip.graphs.modules import MasksGraph, picture_mask
from masqclip.graphs.refusals import check_exportable, fixed_frame
from masqclip.graphs.square import propose_in_square
from masqclip.graphs.storage import store
from masqclip.model import MasQClipModel
from masqclip.proposals.eomt import EomtProposer
from masqclip.proposals.mask2former import Mask2FormerProposer
from tiny import tiny_clip, tiny_proposer_config


@pytest.fixture(scope="module")
def tiny() -> Segmenter:
    clip, tokenizer = tiny_clip()
    torch.manual_seed(5)
    proposer = Mask2FormerProposer(tiny_proposer_config())
    model = MasQClipModel.from_parts(clip, proposer, shortest_edge=64, longest_edge=128)
    return Segmenter(model, tokenizer, name="tiny")


def model(**settings: Any) -> Any:
    config = {
        "proposer_type": "mask2former", "proposer_config": {}, "clip_input": "stretch",
        "shortest_edge": 64, "longest_edge": 128, "size_divisor": 32,
    }  # fmt: skip
    eomt = SimpleNamespace(config=SimpleNamespace(image_size=64))
    system = settings.pop("system", "masqclip")
    return SimpleNamespace(
        config=SimpleNamespace(**(config | settings)), system=system, proposer=eomt
    )


@pytest.mark.parametrize(
    ("settings", "how", "said"),
    [
        ({}, {"opset": 17}, "opset 17: give one from 20 to 23"),
        ({"system": "xpm"}, {}, "system 'xpm' cannot be exported"),
        ({"proposer_type": "sam3"}, {}, "type 'sam3' cannot be exported: take a Mask2Former or"),
        ({"proposer_type": "union"}, {}, "type 'union' cannot be exported"),
        ({"proposer_config": {"pre_norm": True}}, {}, "pre_norm"),
        ({"proposer_type": "eomt"}, {}, "squares of 64 pixels, and the model pictures by the edg"),
        ({"clip_input": "aspect"}, {"dynamic": True}, "clip_input is 'aspect'"),
    ],
)
def test_what_cannot_become_graphs(settings: Any, how: Any, said: str) -> None:
    with pytest.raises(MasqclipError, match=said):
        check_exportable(model(**settings), **{"dynamic": False, "opset": 20, **how})


def test_frames() -> None:
    assert fixed_frame(model(shortest_edge=70), None) == (96, 96)
    assert fixed_frame(model(), (64, 96)) == (64, 96)
    with pytest.raises(MasqclipError, match="frame 60x90: give multiples of 32, such as 64x96"):
        fixed_frame(model(), (60, 90))
    with pytest.raises(MasqclipError, match="the EoMT sees a square of 128 pixels"):
        fixed_frame(model(proposer_type="eomt"), (160, 64))


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    for words, said in (
        ([str(tmp_path)], "is there, and no export: name another folder"),
        ([str(tmp_path / "x"), "--frame", "64"], "--frame 64: give HEIGHTxWIDTH"),
        ([str(tmp_path / "x"), "--frame", "64x64", "--dynamic"], "--dynamic leaves it open"),
        ([str(tmp_path / "x"), "--opset", "9"], "opset 9"),
        ([str(tmp_path / "x"), "--frame", "60x60"], "frame 60x60: give multiples of 32"),
    ):
        assert main(["export", "masqclip-mini", *words, "-q"]) == 2
        error = capsys.readouterr().err
        assert said in error
        assert len(error.strip().splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_an_export_that_fails_leaves_nothing(
    tiny: Segmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("no more")

    monkeypatch.setattr("masqclip.graphs.export.to_onnx", fails)
    with pytest.raises(RuntimeError, match="no more"):
        export_model(tiny, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


class _Off(torch.nn.Module):
    """Gives a little more than another module."""

    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.module(*inputs)
        return found + 0.01


def test_graphs_that_give_something_else_than_the_model_are_refused(
    segmenter: Segmenter, mini_graphs: Path
) -> None:
    graph = graphs_of(segmenter, None)["text"]
    differences = _compare(segmenter, {"text": graph}, mini_graphs, "float32")
    assert 0 < differences["text.text_embeddings"] < 1e-4
    off = Graph(_Off(graph.module), graph.outputs, graph.open, graph.examples)
    with pytest.raises(MasqclipError, match=r"'text' gives text_embeddings that is 0.01 off"):
        _compare(segmenter, {"text": off}, mini_graphs, "float32")


def test_given_masks_are_weighed_as_the_model_weighs_them(tiny: Segmenter) -> None:
    """The graph's one expression is that of `mask_coverage`."""
    graph = MasksGraph(tiny.model)
    pixels = torch.zeros(1, 3, 64, 96)
    masks = torch.zeros(4, 37, 53, dtype=torch.uint8)
    masks[0] = 1
    masks[1, 3:30, 7:20] = 1
    masks[2, 5, 5] = 1
    size = torch.tensor([60, 86])
    found = graph._patch_weights(pixels, size, masks)
    right = patch_weights(
        masks.numpy(), size=(37, 53), resized=(60, 86), frame=(64, 96), grid=(8, 8)
    )
    torch.testing.assert_close(found, right)


def test_an_eomt_sees_its_square_without_a_size_being_read() -> None:
    torch.manual_seed(0)
    config = EomtConfig(
        hidden_size=32, num_hidden_layers=3, num_attention_heads=2, image_size=64, patch_size=16,
        num_blocks=1, num_queries=5, num_labels=3, num_upscale_blocks=1, intermediate_size=32,
    )  # fmt: skip
    proposer = EomtProposer(config).eval()
    pixels = torch.randn(2, 3, 64, 32)
    size = torch.tensor([[64, 24], [64, 30]])
    inside = picture_mask(pixels, size)
    with torch.inference_mode():
        right = proposer(pixels * inside[:, None], inside)
        found = propose_in_square(proposer, pixels * inside[:, None], inside)
    torch.testing.assert_close(found.mask_logits, right.mask_logits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.object_logits, right.object_logits, atol=1e-4, rtol=1e-4)


def small_graph(weights: np.ndarray) -> ir.Model:
    """A product with weights."""
    x = ir.Value(
        name="x", shape=ir.Shape(["n", len(weights)]), type=ir.TensorType(ir.DataType.FLOAT)
    )
    w = ir.Value(name="w", const_value=ir.tensor(weights, name="w"))
    w.shape, w.dtype = w.const_value.shape, w.const_value.dtype
    product = ir.node("MatMul", [x, w])
    y = product.outputs[0]
    y.name, y.shape, y.dtype = "y", ir.Shape(["n", weights.shape[1]]), ir.DataType.FLOAT
    graph = ir.Graph([x], [y], nodes=[product], initializers=[w], opset_imports={"": 20}, name="g")
    return ir.Model(graph, ir_version=10)


@pytest.mark.parametrize(("storage", "off"), [("float32", 0), ("float16", 2e-3), ("int8", 3e-2)])
def test_weights_are_stored_in_less(storage: Any, off: float, tmp_path: Path) -> None:
    import onnxruntime

    weights = np.random.default_rng(0).normal(size=(64, 80)).astype(np.float32)
    store({"g": small_graph(weights)}, tmp_path, storage)
    x = np.random.default_rng(1).normal(size=(3, 64)).astype(np.float32)
    session = onnxruntime.InferenceSession(str(tmp_path / "g.onnx"))
    (found,) = session.run(None, {"x": x})
    right = x @ weights
    assert np.abs(found - right).max() <= (off or 1e-5) * np.abs(right).max()
    size = (tmp_path / "g.onnx").stat().st_size
    assert size < {"float32": 1.1, "float16": 0.6, "int8": 0.4}[storage] * weights.nbytes


def test_halves_are_exact_where_a_model_is_stored_in_halves(tmp_path: Path) -> None:
    import onnxruntime

    weights = np.random.default_rng(0).normal(size=(64, 80)).astype(np.float16).astype(np.float32)
    outputs = []
    x = np.random.default_rng(1).normal(size=(3, 64)).astype(np.float32)
    for storage in ("float32", "float16"):
        folder = tmp_path / storage
        folder.mkdir()
        store({"g": small_graph(weights)}, folder, storage)  # type: ignore[arg-type]
        session = onnxruntime.InferenceSession(str(folder / "g.onnx"))
        outputs.append(session.run(None, {"x": x})[0])
    assert np.array_equal(*outputs)
    with pytest.raises(MasqclipError, match="'w' of the graph 'g' are too large for half"):
        store({"g": small_graph(weights * np.float32(1e6))}, tmp_path, "float16")


def test_many_weights_lie_beside_the_graphs_each_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    monkeypatch.setattr("masqclip.graphs.storage._MOST_INSIDE", 1000)
    weights = np.random.default_rng(0).normal(size=(64, 80)).astype(np.float32)
    store({"a": small_graph(weights), "b": small_graph(weights)}, tmp_path, "float32")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.onnx", "b.onnx", "weights.data"]
    assert (tmp_path / "weights.data").stat().st_size == weights.nbytes
    x = np.ones((1, 64), np.float32)
    for name in "ab":
        session = onnxruntime.InferenceSession(str(tmp_path / f"{name}.onnx"))
        np.testing.assert_allclose(session.run(None, {"x": x})[0], x @ weights, atol=1e-4)
