"""Tracing a module into an ONNX graph, with sizes left open, by torch.export's exporter."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from typing import Any

import torch
from torch import Tensor, nn

from masqclip.errors import MasqclipError
from masqclip.graphs.traceable import traceable

#: ONNX operator sets that are written. GridSample has its present form from 20 on.
OPSETS = range(20, 24)

#: Those of the exporter's steps. The last tells all of them in full as soon as anybody listens to
#: everything, and then takes longer than they do.
_LOGGERS = ("torch.onnx", "onnxscript", "onnx_ir", "torch.__trace")


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back what the exporter says of its own steps."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
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

    Raises:
        MasqclipError: PyTorch's exporter fails at it.
    """
    shapes = tuple(dict(open.get(name, {})) for name in inputs)
    try:
        # With gradients on, attention over levels is sampled (GridSample), not looked up in bags.
        with traceable(module), _quiet(), redirect_stdout(StringIO()), torch.enable_grad():
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
    except torch.onnx.OnnxExporterError as error:
        cause = str(error.__cause__ or error).strip().split("\n")[0]
        raise MasqclipError(
            f"the exporter of PyTorch {torch.__version__} cannot trace this model: {cause[:200]}"
        ) from error
    _choose_by_logic(program.model)
    _make_plain(program.model)
    return program.model


def _choose_by_logic(model: Any) -> None:
    """Write a choice between truths as logic: onnxruntime's Where takes numbers only."""
    import onnx_ir as ir

    for node in list(model.graph):
        if node.op_type != "Where" or node.outputs[0].dtype != ir.DataType.BOOL:
            continue
        condition, yes, no = node.inputs
        chosen = ir.node("And", [condition, yes])
        denied = ir.node("Not", [condition])
        other = ir.node("And", [denied.outputs[0], no])
        either = ir.node("Or", [chosen.outputs[0], other.outputs[0]])
        given, result = node.outputs[0], either.outputs[0]
        result.name, result.shape, result.dtype = given.name, given.shape, given.dtype
        ir.convenience.replace_nodes_and_values(
            model.graph, node, [node], [chosen, denied, other, either], [given], [result]
        )


def _make_plain(graph: Any) -> None:
    """Remove what the exporter notes of where each step comes from: a tenth of a small graph, and
    paths of the machine that it was made on."""
    graph.metadata_props.clear()
    graph.graph.metadata_props.clear()
    for node in graph.graph:
        node.metadata_props.clear()
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()
    for value in (*graph.graph.inputs, *graph.graph.initializers.values()):
        value.metadata_props.clear()
