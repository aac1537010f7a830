"""The example of a Triton model repository says of each graph what the graph says of itself."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from masqclip.runtime.settings import GRAPHS, read_settings

REPOSITORY = Path(__file__).parents[2] / "examples" / "triton"
TYPES = {"TYPE_FP32": "float32", "TYPE_INT64": "int64", "TYPE_UINT8": "uint8"}
VALUE = re.compile(r'{ name: "(\w+)", data_type: (\w+), dims: \[ ([-\d, ]+) \] }')


@pytest.mark.parametrize("graph", GRAPHS)
def test_names_types_and_sizes(mini_graphs: Path, graph: str) -> None:
    text = (REPOSITORY / f"masqclip_{graph}" / "config.pbtxt").read_text()
    assert f'name: "masqclip_{graph}"' in text
    assert 'backend: "onnxruntime"' in text
    batched = int(re.findall(r"max_batch_size: (\d+)", text)[0]) > 0
    settings = read_settings(mini_graphs)
    sides = re.split(r"^output", text, flags=re.MULTILINE)
    for part, signature in zip(sides, (settings.inputs, settings.outputs), strict=True):
        told = {
            name: (TYPES[kind], [int(side) for side in dims.split(",")])
            for name, kind, dims in VALUE.findall(part)
        }
        # What tells a picture unlike those of training is for this package's own runtime.
        known = {n: v for n, v in signature[graph].items() if n != "picture_statistics"}
        assert told.keys() == known.keys()
        for name, (kind, shape) in known.items():
            open_sides = [side if isinstance(side, int) else -1 for side in shape]
            own = open_sides[1:] if batched else open_sides
            assert told[name][0] == kind
            assert len(told[name][1]) == len(own)
            assert all(one in (-1, other) for one, other in zip(told[name][1], own, strict=True))
            assert not batched or isinstance(shape[0], str)
