"""`masqclip web`: a page that needs no server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from masqclip.cli.console import print_error, print_line
from masqclip.cli.models import fetch_models

app = App(
    name="web",
    usage="Usage: masqclip web OUT [OPTIONS]",
    help_epilogue="""\
**Examples**

```text
# a demonstration that anybody can open: copy the folder to any static host
masqclip web page
python -m http.server --directory page

# a model of your own
masqclip web page --model models/mine

# without a network: two packages of npm that were fetched elsewhere
masqclip web page --packages npm-packages
```

**What is written**

The page of "masqclip serve", the model as ONNX graphs, onnxruntime-web and a tokenizer: 40 MB for
the shipped model. Everything runs in the browser, on its graphics processor where it has WebGPU:
pictures and names leave no machine. Examples and files of names need "masqclip serve".""",
)


@app.default
def web(
    out: Annotated[Path, Parameter(name="OUT")],
    /,
    *,
    model: Annotated[str, Parameter(alias="-m", metavar="NAME")] = "masqclip-mini",
    packages: Annotated[Path | None, Parameter(metavar="DIR")] = None,
    quiet: Annotated[bool, Parameter(alias="-q", show_default=False)] = False,
) -> int:
    """Write the page as a folder for a static host: the model runs in the browser.

    Args:
        out: The folder to make; an earlier page there is replaced.
        model: masqclip-mini, a preset, a folder, also one that "masqclip export" wrote. What is not
            exported yet is, in half precision, which takes a minute.
        packages: The folder of npm's archives, in place of fetching them: those that "npm pack
            onnxruntime-web@1.30.0 @huggingface/tokenizers@0.2.0" writes.
        quiet: Print errors only.
    """
    from masqclip.hub.local import is_exported
    from masqclip.web.page import write_page

    if not is_exported(model):
        fetch_models(model)

    def report(step: str) -> None:
        if not quiet:
            print_error(f"{step} ...", kind="")

    sizes = write_page(model, out, packages=packages, report=report)
    if not quiet:
        whole = sum(sizes.values()) / 1e6
        print_line(f"written: {out}, {len(sizes)} files, {whole:.1f} MB")
        print_line(f"to look at it: python -m http.server --directory {out}")
    return 0
