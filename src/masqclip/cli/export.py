"""`masqclip export`: a model in, ONNX graphs out whose words stay free."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from masqclip.cli.console import Steps, print_line
from masqclip.cli.models import check_refine, check_size_option, fetch_models, load_segmenter
from masqclip.errors import MasqclipError

app = App(
    name="export",
    usage="Usage: masqclip export MODEL OUT [OPTIONS]",
    help_epilogue="""\
**Examples**

```text
# the shipped model, for pictures of any size: the same results, without
# PyTorch
masqclip export masqclip-mini mini-onnx --dynamic
masqclip segment beach.png -v "rocket, car" --model mini-onnx

# half the size; a frame of one size, as phones and accelerators like it
masqclip export photo photo-onnx --dtype float16 --frame 640x640
```

**What is written**

image.onnx (pixels -> masks, object scores, mask embeddings), text.onnx (tokens -> text embeddings)
and masks.onnx (pixels and given masks -> their embeddings), config.json, the tokenizer, and a
README with shapes. No list of names is in them: names are chosen at the call. What is written is
run and compared with the model before the folder has its name.

**What it takes**

The shipped model a minute, a ViT-L/14 at 336 with a Mask2Former of ResNet-50 several.""",
)


@app.default
def export(
    model: Annotated[str, Parameter(name="MODEL")],
    out: Annotated[Path, Parameter(name="OUT")],
    /,
    *,
    format: Literal["onnx"] = "onnx",
    dynamic: Annotated[bool, Parameter(show_default=False)] = False,
    frame: Annotated[str | None, Parameter(metavar="HEIGHTxWIDTH")] = None,
    dtype: Literal["float32", "float16", "int8"] = "float32",
    opset: Annotated[int, Parameter(metavar="N")] = 20,
    size: Annotated[str | None, Parameter(metavar="PIXELS")] = None,
    refine: Annotated[list[str] | None, Parameter(metavar="NAME=VALUE")] = None,
    quiet: Annotated[bool, Parameter(alias="-q", show_default=False)] = False,
) -> int:
    """Write a model as ONNX graphs, to run without PyTorch.

    Args:
        model: masqclip-mini, a preset, a folder, or a name on the Hugging Face Hub; its proposer a
            Mask2Former or an EoMT.
        out: The folder to make; an earlier export there is replaced.
        format: What is written.
        dynamic: Leave the size of pictures open. Results are then those of the model itself; else
            pictures are fitted into one frame.
        frame: That frame, in multiples of 32 as a rule; a square of the model's shorter edge unless
            given.
        dtype: How weights are stored: float16 takes half as much and loses nothing of a model that
            is stored so; int8 takes less and costs accuracy. Sums are made in float32 all the same.
        opset: The ONNX operator set, 20 to 23.
        size: The size at which pictures are seen, in place of the model's own: SHORTEST, the
            shorter side in pixels, or SHORTEST:LONGEST.
        refine: Read or name masks in another way than the published one, such as "prune=0.05";
            repeat it for several.
        quiet: Print errors only.
    """
    only = _frame(frame)
    size = check_size_option(size)
    check_refine(refine or ())
    if dynamic and only is not None:
        raise MasqclipError("--frame is one size, and --dynamic leaves it open: give one")
    fetch_models(model)
    from masqclip.graphs.export import export_model

    segmenter = load_segmenter(
        model, device="cpu", dtype="float32", size=size, refine=refine or (), quiet=True
    )
    with Steps("graphs", total=5, hidden=quiet, brief=True) as steps:

        def report(step: str, done: int, total: int) -> None:
            steps.note(step)
            steps.show(done)

        done = export_model(
            segmenter,
            out,
            opset=opset,
            dynamic=dynamic,
            storage=dtype,
            frame=only,
            report=report,
        )
    if not quiet:
        for name, count in done.bytes.items():
            print_line(f"{count / 1e6:9.2f} MB  {name}")
        worst = max(done.differences, key=lambda output: done.differences[output])
        print_line(
            f"written: {out}; what the graphs give is at most {done.differences[worst]:.1g} off "
            f"the model's ({worst})"
        )
    return 0


def _frame(text: str | None) -> tuple[int, int] | None:
    """``--frame`` as (height, width)."""
    if text is None:
        return None
    sides = text.lower().split("x")
    if len(sides) != 2 or not all(side.isdecimal() and 0 < int(side) < 65536 for side in sides):
        raise MasqclipError(f"--frame {text:.40}: give HEIGHTxWIDTH in pixels, such as 640x640")
    return int(sides[0]), int(sides[1])
