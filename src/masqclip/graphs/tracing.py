"""Tracing a module into an ONNX graph, with sizes left open, by torch.export's exporter."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from transformers.models.mask2former import modeling_mask2former

#: ONNX operator sets that are written. GridSample has its present form from 20 on.
OPSETS = range(20, 24)


@contextmanager
def open_sizes() -> Iterator[None]:
    """Have nothing that depends on a picture's size be kept from an earlier one.

    transformers keeps the position encodings of the last size in a cache, which asks an open size
    for its value: every other size would then get those of the traced one.
    """
    embedding: Any = modeling_mask2former.Mask2FormerSinePositionEmbedding
    name = "build_sine_position_embedding"
    build = getattr(embedding, name).__wrapped__
    with (
        patch.object(embedding, name, staticmethod(build)),
        patch.object(nn.BatchNorm2d, "forward", _scaled),
    ):
        yield


def _scaled(norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """Batch norm in evaluation as a product and a sum.

    The exporter would multiply the weights of the convolution before it by its own, and what a
    model stores in half precision would be so no more. Runtimes join the three when they load them.
    """
    assert norm.running_var is not None
    assert norm.running_mean is not None
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    shift = norm.bias - norm.running_mean * scale
    return x * scale.view(-1, 1, 1) + shift.view(-1, 1, 1)


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back what the exporter says of its own steps."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    before = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, before, strict=True):
                logger.setLevel(level)


def to_onnx(
    module: nn.Module,
    inputs: Mapping[str, Tensor],
    outputs: Sequence[str],
    *,
    open: Mapping[str, Mapping[int, Any]],
    opset: int,
) -> Any:
    """The graph of a module, as an `onnx_ir.Model`.

    Args:
        module: in evaluation mode; its inputs are those of `forward`, in order.
        inputs: an example of each, by name.
        outputs: the names of what `forward` gives.
        open: of each input the axes whose sizes are left open (`torch.export.Dim`).
        opset: of `OPSETS`.
    """
    shapes = tuple(dict(open.get(name, {})) for name in inputs)
    # With gradients on, attention over levels is sampled (GridSample), not looked up in bags.
    with open_sizes(), _quiet(), redirect_stdout(StringIO()), torch.enable_grad():
        program: Any = torch.onnx.export(
            module,
            tuple(inputs.values()),
            dynamo=True,
            opset_version=opset,
            dynamic_shapes=shapes,
            input_names=list(inputs),
            output_names=list(outputs),
            verify=False,
            report=False,
        )
    return _plain(program.model)


def _plain(graph: Any) -> Any:
    """A graph without what the exporter notes of where each step comes from, a tenth of a small
    one, and of the machine that it was made on."""
    graph.metadata_props.clear()
    graph.graph.metadata_props.clear()
    for node in graph.graph:
        node.metadata_props.clear()
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()
    for value in (*graph.graph.inputs, *graph.graph.initializers.values()):
        value.metadata_props.clear()
    return graph
