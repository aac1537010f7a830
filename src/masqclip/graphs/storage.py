"""How a graph's weights are stored: in halves or eighths, and in a file beside it if they are many.

Whatever the storage, sums are made in float32: halves are made whole when a runtime loads them, and
of whole numbers the runtime makes the products exactly. So every runtime runs every graph.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np

from masqclip.errors import MasqclipError

Storage = Literal["float32", "float16", "int8"]

#: Weights of all graphs that are more than this lie in a file beside them: a protocol buffer ends
#: at 2 GiB.
_MOST_INSIDE = 1 << 30
_LEAST_HALVED = 4096  # numbers; fewer, such as norms and biases, stay as they are
_ALIGNMENT = 4096
WEIGHTS = "weights.data"


def store(graphs: Mapping[str, Any], folder: Path, storage: Storage) -> None:
    """Write graphs into a folder as NAME.onnx, with `WEIGHTS` beside them where there are many.

    Args:
        graphs: by name, each an `onnx_ir.Model`, which is changed.
        folder: an empty one.
        storage: of the weights.

    Raises:
        MasqclipError: a weight is too large for half precision.
    """
    import onnx_ir

    if storage == "int8":
        graphs = {name: _in_eighths(graph) for name, graph in graphs.items()}
    if storage != "float32":
        for name, graph in graphs.items():
            _halve(graph, name)
    tensors = [tensor for graph in graphs.values() for tensor in _weights(graph)]
    if sum(tensor.const_value.nbytes for tensor in tensors) > _MOST_INSIDE:
        _move_out(graphs, folder)
    for name, graph in graphs.items():
        onnx_ir.save(graph, folder / f"{name}.onnx")


def _weights(graph: Any) -> list[Any]:
    """The values of a graph that are weights."""
    return [value for value in graph.graph.initializers.values() if value.const_value is not None]


def _halve(graph: Any, name: str) -> None:
    """Store the weights of a graph in half precision, made whole before anything is done with
    them."""
    import onnx_ir as ir

    for value in _weights(graph):
        if value.dtype != ir.DataType.FLOAT or value.const_value.size < _LEAST_HALVED:
            continue
        numbers = value.const_value.numpy()
        with np.errstate(over="ignore"):
            halves = numbers.astype(np.float16)
        if np.isfinite(numbers).all() and not np.isfinite(halves).all():
            raise MasqclipError(
                f"the weights {value.name!r} of the graph {name!r} are too large for half "
                "precision: export with --dtype float32"
            )
        stored = ir.Value(
            name=f"{value.name}_half",
            type=ir.TensorType(ir.DataType.FLOAT16),
            shape=value.shape,
            const_value=ir.tensor(halves, name=f"{value.name}_half"),
        )
        whole = ir.node("Cast", [stored], attributes={"to": int(ir.DataType.FLOAT)})
        whole.outputs[0].name = f"{value.name}_whole"
        whole.outputs[0].shape, whole.outputs[0].dtype = value.shape, ir.DataType.FLOAT
        value.replace_all_uses_with(whole.outputs[0])
        del graph.graph.initializers[value.name]
        graph.graph.initializers[stored.name] = stored
        graph.graph.insert_before(graph.graph[0], whole)


def _in_eighths(graph: Any) -> Any:
    """A graph whose matrix products are of whole numbers of eight bits."""
    import onnx_ir
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with TemporaryDirectory() as scratch:
        plain, quantised = Path(scratch, "plain.onnx"), Path(scratch, "quantised.onnx")
        onnx_ir.save(graph, plain, external_data="plain.data")
        quantize_dynamic(
            plain,
            quantised,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            weight_type=QuantType.QInt8,
            use_external_data_format=True,
            nodes_to_exclude=[node.name for node in graph.graph if not _multiplies_matrix(node)],
        )
        found = onnx_ir.load(quantised)
        onnx_ir.external_data.load_to_model(found)
    return found


def _multiplies_matrix(node: Any) -> bool:
    """Whether a node multiplies by a matrix of weights: of a vector of weights, onnxruntime's
    quantiser makes a scale a number, which then does not fit the product."""
    weight = node.inputs[1].const_value if len(node.inputs) > 1 and node.inputs[1] else None
    return node.op_type == "MatMul" and (weight is None or len(weight.shape) == 2)


def _move_out(graphs: Mapping[str, Any], folder: Path) -> None:
    """Write the weights of all graphs into one file, each of them once."""
    import onnx_ir as ir

    written: dict[bytes, tuple[int, int]] = {}
    with open(folder / WEIGHTS, "wb") as file:
        for graph in graphs.values():
            for value in _weights(graph):
                tensor = value.const_value
                if tensor.nbytes < _ALIGNMENT:
                    continue
                content = tensor.tobytes()
                key = hashlib.sha256(content).digest()
                if key not in written:
                    file.write(bytes(-file.tell() % _ALIGNMENT))
                    written[key] = (file.tell(), len(content))
                    file.write(content)
                start, length = written[key]
                value.const_value = ir.ExternalTensor(
                    WEIGHTS,
                    start,
                    length,
                    tensor.dtype,
                    name=value.name,
                    shape=tensor.shape,
                    base_dir=folder,
                )
