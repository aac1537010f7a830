"""Folders of ONNX graphs that are damaged, or built to do harm: one line each, exit code 2."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from masqclip import MasqclipError, Segmenter
from masqclip.cli.main import main
from masqclip.runtime import OnnxSegmenter
from masqclip.runtime.graph_files import check_graph

EXAMPLE = Path(__file__).parents[2] / "examples" / "beach.png"


@pytest.fixture
def folder(mini_graphs: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(mini_graphs, tmp_path / "graphs"))


def told(folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What the command line says of a folder: one line."""
    words = ["segment", str(EXAMPLE), "-v", "car", "-o", str(folder.parent / "out")]
    assert main([*words, "--model", str(folder)]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


def sealed(folder: Path) -> None:
    """Have the settings of a folder tell of its files as they are now, as a forger would."""
    config = folder / "config.json"
    document = json.loads(config.read_text())
    for name in [*document["files"], *(path.name for path in folder.glob("*.data"))]:
        content = (folder / name).read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        document["files"][name] = {"bytes": len(content), "sha256": digest}
    config.write_text(json.dumps(document))


@pytest.mark.parametrize("name", ["image.onnx", "text.onnx", "masks.onnx", "tokenizer.json"])
@pytest.mark.parametrize("how", ["gone", "short", "changed", "folder"])
def test_files_that_are_not_whole(
    folder: Path, name: str, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = folder / name
    content = file.read_bytes()
    file.unlink()
    if how == "short":
        file.write_bytes(content[: len(content) // 2])
    elif how == "changed":
        file.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    elif how == "folder":
        file.mkdir()
    line = told(folder, capsys)
    assert str(file) in line
    assert {"gone": "no such file", "short": "were exported", "changed": "not as it was exported",
            "folder": "a folder"}[how] in line  # fmt: skip


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.999])
def test_a_graph_that_is_cut_short_and_sealed(
    folder: Path, share: float, capsys: pytest.CaptureFixture[str]
) -> None:
    content = (folder / "text.onnx").read_bytes()
    (folder / "text.onnx").write_bytes(content[: int(share * len(content))])
    sealed(folder)
    assert "text.onnx' is damaged, or cut short" in told(folder, capsys)


def change(**settings: Any) -> Callable[[dict[str, Any]], None]:
    return lambda document: document.update(settings)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (change(format="else"), "no folder of ONNX graphs"),
        (change(version=2), "is of version 2"),
        (change(graphs={}), "is damaged"),
        (change(frame=[0, 32]), "frame is 0"),
        (change(scores="loud"), "scores is 'loud'"),
        (change(scores="sigmoid"), "logit_bias None"),
        (change(logit_scale="1"), "logit_scale is 1"),
        (change(logit_scale=True), "logit_scale is True"),
        (change(embedding_size=10**9), "embedding_size is 1000000000"),
        (change(refinements={"x": 1}), "no refinement 'x'"),
        (change(files={"../x": {"bytes": 1, "sha256": ""}}), "no name of a file in the folder"),
        (change(files={}), "do not name image.onnx"),
        (change(tuned_names=[1]), "tuned_names is '1'"),
        (lambda d: d.pop("text"), "is damaged"),
        (lambda d: d["text"].update(templates=["none"]), "templates"),
        (lambda d: d["text"].update(pad_to=10**6), "pad_to"),
        (lambda d: d["graphs"]["text"]["inputs"].clear(), "its inputs are token_ids, not"),
        (
            lambda d: d["graphs"]["text"]["outputs"]["text_embeddings"].update(shape=["names", 3]),
            "its settings say float32 ['names', 3]",
        ),
    ],
)
def test_settings_that_cannot_be(
    folder: Path, wrong: Callable[[dict[str, Any]], None], said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    config = folder / "config.json"
    document = json.loads(config.read_text())
    wrong(document)
    config.write_text(json.dumps(document))
    if document.get("format") == "else":  # then it is another kind of folder
        with pytest.raises(MasqclipError, match=said):
            OnnxSegmenter.from_pretrained(folder)
    else:
        assert said in told(folder, capsys)
    config.write_text("{")
    assert "no valid JSON" in told(folder, capsys)


def text_graph(nodes: list[Any], weights: list[Any] = [], **more: Any) -> onnx.ModelProto:  # noqa: B006
    """A graph that takes and gives what text.onnx does."""
    graph = helper.make_graph(
        nodes, "text",
        [helper.make_tensor_value_info("token_ids", TensorProto.INT64, ["names", "tokens"])],
        [helper.make_tensor_value_info("text_embeddings", TensorProto.FLOAT, ["names", 192])],
        initializer=weights,
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 20), *more.pop("opsets", [])]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10, **more)


def plain() -> list[Any]:
    """All embeddings are zero."""
    shape = numpy_helper.from_array(np.array([1, 192]), "shape")
    return [
        helper.make_node("Shape", ["token_ids"], ["all"]),
        helper.make_node("Constant", [], ["shape"], value=shape),
        helper.make_node("ConstantOfShape", ["shape"], ["text_embeddings"]),
    ]


def loop() -> list[Any]:
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["still"])], "body",
        [helper.make_tensor_value_info("i", TensorProto.INT64, []),
         helper.make_tensor_value_info("go", TensorProto.BOOL, [])],
        [helper.make_tensor_value_info("still", TensorProto.BOOL, [])],
    )  # fmt: skip
    true = numpy_helper.from_array(np.array(True), "true")
    return [
        helper.make_node("Constant", [], ["true"], value=true),
        helper.make_node("Loop", ["", "true"], [], body=body),
        *plain(),
    ]


def elsewhere(location: str, length: int = 16) -> onnx.TensorProto:
    tensor = numpy_helper.from_array(np.zeros(4, np.float32), "w")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("length", str(length))):
        tensor.external_data.add(key=key, value=value)
    return tensor


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (lambda: text_graph(loop()), "the operator Loop"),
        (
            lambda: text_graph(
                [*plain(), helper.make_node("Trilu", ["x"], ["y"], domain="com.microsoft")],
                opsets=[helper.make_opsetid("com.microsoft", 1)],
            ),
            "operators of com.microsoft",
        ),
        (
            lambda: text_graph(
                plain(),
                functions=[helper.make_function("own", "f", [], [], [], [])],
            ),
            "defines functions",
        ),
        (lambda: text_graph(plain(), [elsewhere("/etc/passwd")]), "'/etc/passwd', which its"),
        (lambda: text_graph(plain(), [elsewhere("../config.json")]), "'../config.json', which its"),
        (lambda: text_graph(plain(), [elsewhere("own.data", 17)]), "behind the end of 'own.data'"),
        (lambda: text_graph(plain(), [elsewhere("own.data", -1)]), "behind the end of 'own.data'"),
        (
            lambda: text_graph([helper.make_node("NoSuch", [], ["text_embeddings"])]),
            "cannot be run",
        ),
    ],
)
def test_graphs_that_could_do_more_than_compute(
    folder: Path, model: Callable[[], onnx.ModelProto], said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (folder / "text.onnx").write_bytes(model().SerializeToString())
    (folder / "own.data").write_bytes(bytes(16))
    sealed(folder)
    assert said in told(folder, capsys)


def test_a_graph_that_asks_for_all_memory(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shape = numpy_helper.from_array(np.array([1 << 40, 192]), "shape")
    nodes = plain()
    nodes[1] = helper.make_node("Constant", [], ["shape"], value=shape)
    (folder / "text.onnx").write_bytes(text_graph(nodes).SerializeToString())
    sealed(folder)
    assert "out of memory" in told(folder, capsys) or "not enough memory" in told(folder, capsys)


@pytest.mark.parametrize(
    ("part", "step"),
    [
        ("pre_tokenizer", {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Removed"}),
        ("normalizer", {"type": "Replace", "pattern": {"Regex": "(x*)*y"}, "content": ""}),
        ("normalizer", {"type": "Precompiled", "precompiled_charsmap": "AAAA"}),
        ("normalizer", {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "x"}]}),
        ("normalizer", [1]),
    ],
)
def test_tokenizers_that_could_take_for_ever(
    folder: Path, part: str, step: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    file = folder / "tokenizer.json"
    document = json.loads(file.read_text())
    document[part] = step
    file.write_text(json.dumps(document))
    sealed(folder)
    line = told(folder, capsys)
    assert "tokenizer" in line
    assert "no CLIP's has" in line or "damaged" in line


def test_what_is_no_protocol_buffer() -> None:
    for content in (b"", b"\x07", b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"no onnx",
                    b"\x3a\x05\x0a", b"\x38\x01", b"\x3d\x00", b"\x3a\x00\x3a\x00"):  # fmt: skip
        with pytest.raises(MasqclipError, match=r"^it is damaged, or cut short"):
            check_graph(content, source="it", external={})
    check_graph(b"\x3a\x00", source="it", external={})


def test_a_folder_of_graphs_is_no_model_of_pytorch(folder: Path) -> None:
    with pytest.raises(MasqclipError, match=r"it is exported: .*OnnxSegmenter"):
        Segmenter.from_pretrained(folder)
