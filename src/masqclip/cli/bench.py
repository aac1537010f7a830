"""`masqclip bench`: how many pictures a second a model does on this machine."""

from __future__ import annotations

import json as json_module
import os
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Parameter
from rich.table import Table

from masqclip.cli.console import out_console, print_error, print_line
from masqclip.cli.models import check_size_option, fetch_models, load_segmenter
from masqclip.errors import MasqclipError

if TYPE_CHECKING:
    from masqclip.segmenter import Segmenter

app = App(
    name="bench",
    help_epilogue="""\
**Examples**

```text
# the shipped model, on the best device here
masqclip bench

# which batch size and precision suit a GPU
masqclip bench --model owner/model --device cuda --batch-size 1 \\
    --batch-size 8 --dtype bfloat16

# pictures of another size, and more names
masqclip bench --picture 480x640 --vocabulary ade20k-847 --json
```

The picture is noise: what a model finds in it is of no account, what it costs is.""",
)


_BUSY = 0.5  # work for each core: less of it comes from an idle machine's own errands
#: That are timed, the one that counts for pictures a second first.
_TASKS: tuple[Literal["panoptic", "semantic"], ...] = ("panoptic", "semantic")


@app.default
def bench(
    *,
    model: Annotated[str, Parameter(alias="-m", metavar="NAME")] = "masqclip-mini",
    vocabulary: Annotated[str, Parameter(alias="-v", metavar="NAMES")] = "stickers",
    picture: Annotated[str, Parameter(metavar="HxW", show_default=False)] = "",
    size: Annotated[str | None, Parameter(metavar="PIXELS")] = None,
    batch_size: Annotated[list[int] | None, Parameter(metavar="N", show_default=False)] = None,
    device: Annotated[str | None, Parameter(metavar="NAME")] = None,
    dtype: Literal["float32", "bfloat16", "float16"] | None = None,
    rounds: Annotated[int, Parameter(metavar="N")] = 5,
    compile: Annotated[bool, Parameter(show_default=False)] = False,
    json: Annotated[bool, Parameter(show_default=False)] = False,
) -> int:
    """Time a model's parts on this machine.

    Args:
        model: A model of this package, a folder, or a name on the Hugging Face Hub.
        vocabulary: The names to look for, as in "masqclip segment"; their number is what matters.
        picture: Height and width of the pictures; the model's own working size by default.
        size: The size at which pictures are seen, in place of the model's own: SHORTEST, the
            shorter side in pixels, or SHORTEST:LONGEST.
        batch_size: Pictures at a time; repeat it to compare several. 1 and 4 by default.
        device: cpu, cuda, cuda:1 or mps; the default is the best there is.
        dtype: The precision to compute in; the default suits the device.
        rounds: Measured runs, of which the median counts; one more warms up.
        compile: Compile the model first, as "masqclip segment --compile" does.
        json: Print one JSON document.
    """
    load = machine_load()
    batches = batch_size or [1, 4]
    if min(batches) < 1 or rounds < 1:
        raise MasqclipError("--batch-size and --rounds: give 1 or more")
    fetch_models(model)
    import torch

    from masqclip.devices import choose_device, choose_dtype

    size = check_size_option(size)
    where = choose_device(device)
    precision = choose_dtype(dtype, where)
    segmenter = load_segmenter(model, device=device, dtype=dtype, size=size, quiet=json)
    if compile:
        segmenter.compile()
    height, width = _picture(picture, segmenter)
    rows = [measure(segmenter, (height, width), vocabulary, count, rounds) for count in batches]
    facts = {
        "model": model, "device": str(where), "dtype": str(precision).removeprefix("torch."),
        "height": height, "width": width, "compiled": compile,
        "threads": torch.get_num_threads(), "load": load, "results": rows,
    }  # fmt: skip
    if load is not None and load > _BUSY:
        print_error(
            f"this machine was busy in the minute before ({load:.1f} running or waiting for each "
            "core): figures of an idle one are better",
            kind="note: ",
        )
    if json:
        sys.stdout.write(json_module.dumps(facts) + "\n")
        return 0
    threads = f", {facts['threads']} threads" if where.type == "cpu" else ""
    line = f"{model}, {height} x {width}, {facts['dtype']}, {where}{threads}"
    print_line(line)
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    parts = [key for key in ("encode", *_TASKS) if key in rows[0]]
    for column in ("pictures at a time", *parts, "pictures/s"):
        table.add_column(column, header_style="bold", justify="right")
    for row in rows:
        times = (f"{1000 * row[key]:.1f} ms" for key in parts)
        table.add_row(str(row["batch_size"]), *times, f"{row['pictures_per_second']:.1f}")
    out_console().print(table)
    return 0


def machine_load() -> float | None:
    """How much there was to do for each core in the last minute; None where no system says it."""
    if not hasattr(os, "getloadavg"):  # Windows
        return None
    return os.getloadavg()[0] / (os.cpu_count() or 1)


def measure(
    segmenter: Segmenter, size: tuple[int, int], vocabulary: str, batch_size: int, rounds: int
) -> dict[str, Any]:
    """Median seconds a picture of encoding and of decoding; pictures a second of both (panoptic,
    where the model's system has it).

    Args:
        segmenter: what is measured.
        size: (height, width) of the pictures.
        vocabulary: the names.
        batch_size: pictures at a time.
        rounds: how many runs.
    """
    import numpy as np

    from masqclip.clip.vocabulary import Vocabulary
    from masqclip.data.images import read_image
    from masqclip.encoding import encode_pictures

    noise = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    images = [read_image(noise) for _ in range(batch_size)]
    words = Vocabulary.parse(vocabulary)
    encoded = encode_pictures(segmenter.model, images)[0]
    encode = _median(segmenter, lambda: encode_pictures(segmenter.model, images), rounds)
    row: dict[str, Any] = {"batch_size": batch_size, "encode": encode / batch_size}
    tasks = [task for task in _TASKS if task in segmenter.model.tasks]
    for task in tasks:
        row[task] = _median(segmenter, partial(segmenter, encoded, words, task), rounds)
    return row | {"pictures_per_second": 1 / (row["encode"] + row[tasks[0]])}


def _median(segmenter: Segmenter, run: Callable[[], object], rounds: int) -> float:
    import torch

    seconds = []
    for _ in range(rounds + 1):
        started = time.perf_counter()
        run()
        if segmenter.device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[1:])


def _picture(text: str, segmenter: Segmenter) -> tuple[int, int]:
    if not text:
        edge = segmenter.model.config.shortest_edge
        return edge, edge
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.isdigit() and int(part) > 0 for part in parts):
        raise MasqclipError(f"--picture {text}: give height x width in pixels, such as 480x640")
    return int(parts[0]), int(parts[1])
