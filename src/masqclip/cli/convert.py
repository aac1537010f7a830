"""`masqclip convert`: a published checkpoint in, a folder that loads out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from masqclip.cli.console import print_line
from masqclip.cli.output_files import check_folder
from masqclip.errors import MasqclipError

app = App(
    name="convert",
    usage="Usage: masqclip convert CHECKPOINT OUT [OPTIONS]",
    help_epilogue="""\
**Examples**

```text
# the authors' MasQCLIP; its text tower comes from OpenAI's CLIP (downloaded)
masqclip convert masqclip_cross_dataset.pth models/masqclip

# the same without a network: the CLIP is a file or a folder that is here
masqclip convert masqclip_cross_dataset.pth models/masqclip \\
    --clip ViT-L-14-336px.pt

# the authors' MaskCLIP (ICML 2023), likewise
masqclip convert maskclip.pth models/maskclip

# a proposer: a stage-1 teacher or student, or detectron2's Mask2Former
masqclip convert model_final_94dc52.pkl models/mask2former

# a CLIP of OpenAI or open_clip, an EVA02-CLIP, a PE-Core
masqclip convert ViT-B-16.pt models/clip
masqclip convert EVA02_CLIP_L_336_psz14_s6B.pt models/eva02
masqclip convert PE-Core-L14-336.pt models/pe
masqclip convert open_clip_pytorch_model.bin models/laion --activation gelu \\
    --mean 0.5 --std 0.5
```

**What is read**

What a file is shows in the names of its tensors, and its sizes in their shapes; nothing in a file
is ever run. A tensor that is missing or unknown is an error that names it.""",
)


@app.default
def convert(
    checkpoint: Annotated[Path, Parameter(name="CHECKPOINT")],
    out: Annotated[Path, Parameter(name="OUT")],
    /,
    *,
    clip: Annotated[str | None, Parameter(metavar="NAME")] = None,
    vision_heads: Annotated[int | None, Parameter(metavar="N")] = None,
    text_heads: Annotated[int | None, Parameter(metavar="N")] = None,
    activation: Literal["quick_gelu", "gelu"] = "quick_gelu",
    mean: Annotated[str | None, Parameter(metavar="NUMBERS")] = None,
    std: Annotated[str | None, Parameter(metavar="NUMBERS")] = None,
    tokenizer: Annotated[Path | None, Parameter(metavar="DIR")] = None,
) -> int:
    """Convert a checkpoint of MasQCLIP, MaskCLIP, Mask2Former or CLIP into a folder to load.

    Args:
        checkpoint: A .pth, .pt, .pkl, .bin or .safetensors file.
        out: The folder to make.
        clip: The CLIP that a MasQCLIP or MaskCLIP was tuned on: a file, a folder, or a name on the
            Hugging Face Hub. The default is the one of OpenAI that has its sizes.
        vision_heads: Attention heads of CLIP's vision tower, where they are not the published ones.
        text_heads: Attention heads of CLIP's text tower, where they are not the published ones.
        activation: Of a CLIP with OpenAI's towers: quick_gelu for OpenAI, MetaCLIP and DFN, gelu
            for LAION.
        mean: What CLIP's pictures are normalised by: one number of 0 to 1, or three between commas,
            for red, green and blue. The published ones, or those of --clip, unless given.
        std: The deviation, likewise.
        tokenizer: The folder of CLIP's tokenizer, where it is not OpenAI's.
    """
    check_folder(out, "OUT")
    if tokenizer is not None and not tokenizer.is_dir():
        raise MasqclipError(f"--tokenizer {tokenizer}: there is no such folder")
    from masqclip.convert.clip import ClipOptions
    from masqclip.convert.files import convert_file

    options = ClipOptions(
        vision_heads,
        text_heads,
        activation,
        _channels(mean, "--mean"),
        _channels(std, "--std"),
        tokenizer,
    )
    done = convert_file(checkpoint, out, clip=clip, options=options)
    for line in done.found:
        print_line(f"found    {line}")
    for name, reason in done.dropped.items():
        print_line(f"dropped  {name}: {reason}")
    print_line(f"written  {out}, {done.result}")
    return 0


def _channels(text: str | None, option: str) -> tuple[float, float, float] | None:
    """Three numbers, or one for all three, from an option."""
    if text is None:
        return None
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    numbers = 3 * numbers if len(numbers) == 1 else numbers
    least = 1e-6 if option == "--std" else 0
    if len(numbers) != 3 or not all(least <= number <= 1 for number in numbers):
        raise MasqclipError(f"{option} {text}: give a number of 0 to 1, or three between commas")
    return numbers[0], numbers[1], numbers[2]
