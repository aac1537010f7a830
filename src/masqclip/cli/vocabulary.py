"""`masqclip vocabulary`: vocabularies with examples, made, joined and looked at."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from rich.table import Table
from rich.text import Text

from masqclip.cli.console import Phases, one_line, out_console, print_error, print_line
from masqclip.cli.models import check_size_option, fetch_models, load_segmenter
from masqclip.cli.output_files import check_vocabulary_file
from masqclip.errors import MasqclipError

app = App(
    name="vocabulary",
    help_epilogue="""\
**Examples**

```text
# five pictures of each category of an annotated dataset, beside its names
masqclip vocabulary from-coco mugs/instances.json --images mugs/images \\
    --shots 5 --out mugs.json

# used wherever names are
masqclip segment kitchen.jpg --vocabulary mugs.json
masqclip label photos --vocabulary mugs.json --format coco --out dataset

# names and examples together; what is in it
masqclip vocabulary join "plate, fork" mugs.json --out table.json
masqclip vocabulary show table.json
```

A file belongs to the CLIP that its examples were made with: another one refuses it. How much the
examples of a category count beside its name follows from how well the name fits them.""",
)


@app.command(name="from-coco")
def from_coco(
    annotations: Annotated[Path, Parameter(name="FILE")],
    *,
    images: Annotated[Path | None, Parameter(metavar="DIR")] = None,
    shots: Annotated[int, Parameter(metavar="N")] = 5,
    out: Annotated[Path, Parameter(alias="-o", metavar="FILE")],
    only: Annotated[str, Parameter(metavar="NAMES")] = "",
    no_words: bool = False,
    seed: Annotated[int, Parameter(metavar="INT")] = 0,
    model: Annotated[str, Parameter(alias="-m", metavar="NAME")] = "masqclip-mini",
    device: Annotated[str | None, Parameter(metavar="NAME")] = None,
    dtype: Annotated[str | None, Parameter(metavar="NAME")] = None,
    size: Annotated[str | None, Parameter(metavar="PIXELS")] = None,
    quiet: Annotated[bool, Parameter(alias="-q")] = False,
) -> int:
    """Take examples of every category from an annotated dataset.

    Args:
        annotations: A COCO file of instances or panoptic segments, or a folder of such a dataset.
        images: The folder of its pictures; of a dataset's folder, its "images".
        shots: Pictures of each category, chosen by chance; of each its largest mask.
        out: The vocabulary to write, .json.
        only: Categories to take, between commas; all by default.
        no_words: Leave it to the examples alone; by default CLIP reads the names as well.
        seed: Which pictures.
        model: The model that will read it.
        device: cpu, cuda, cuda:1 or mps; the default is the best there is.
        dtype: The precision to compute in; the default suits the device.
        size: The size at which pictures are seen, SHORTEST or SHORTEST:LONGEST.
        quiet: Print errors only.
    """
    from masqclip.options import check_count

    check_count(shots, what="--shots")
    size = check_size_option(size)
    check_vocabulary_file(out)
    from masqclip.clip.name_limits import few_names
    from masqclip.clip.name_lists import split_names
    from masqclip.data.open_coco import open_coco
    from masqclip.data.stickers.drawn import DrawnScenes
    from masqclip.shots import take_shots

    names = set(split_names(only, what="--only"))
    dataset = open_coco(annotations, images=images)
    if isinstance(dataset, DrawnScenes):
        raise MasqclipError(f"{annotations}: scenes that are drawn are no file: write them first")
    if missing := names - set(dataset.categories.names.values()):
        raise MasqclipError(f"--only: {annotations} has no category {min(missing)!r}")
    if names:
        dataset = dataset.keeping(lambda category: category["name"] in names)
    fetch_models(model)
    segmenter = load_segmenter(model, device=device, dtype=dtype, size=size, quiet=quiet)
    with Phases(hidden=quiet) as phases:
        report = partial(phases.show, "pictures")
        found = take_shots(segmenter, dataset, shots, seed=seed, words=not no_words, report=report)
    found.vocabulary.save(out)
    if found.lacking and not quiet:
        few = few_names([f"{name} {count}" for name, count in found.lacking.items()])
        print_error(f"fewer than {shots} pictures show: {few}", kind="note: ")
    if not quiet:
        examples = sum(len(c.examples) for c in found.vocabulary.categories if c.examples)
        print_line(f"{len(found.vocabulary)} categories, {examples} examples: {out}")
    return 0


@app.command
def join(
    vocabularies: Annotated[list[str], Parameter(name="VOCABULARY")],
    *,
    out: Annotated[Path, Parameter(alias="-o", metavar="FILE")],
) -> int:
    """Put vocabularies together: names, built-in lists, files, examples.

    Args:
        vocabularies: Each as in "masqclip segment --vocabulary". A category of several gets the
            synonyms and examples of all.
        out: The vocabulary to write, .json.
    """
    check_vocabulary_file(out)
    from masqclip.clip.vocabulary import Vocabulary

    whole, *others = map(Vocabulary.parse, vocabularies)
    for other in others:
        whole = whole.joined(other)
    whole.save(out)
    print_line(f"{len(whole)} categories: {out}")
    return 0


@app.command
def show(vocabulary: Annotated[str, Parameter(name="VOCABULARY")]) -> int:
    """Say what is in a vocabulary.

    Args:
        vocabulary: As in "masqclip segment --vocabulary".
    """
    from masqclip.clip.vocabulary import ABOUT_EVERYTHING, Vocabulary

    words = Vocabulary.parse(vocabulary)
    if words.unnamed:
        print_line(ABOUT_EVERYTHING)
        return 0
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for column in ("name", "kind", "CLIP reads", "examples"):
        table.add_column(column, header_style="bold", overflow="fold")
    for category in words.categories:
        read = ", ".join(category.prompts) if category.worded else "-"
        count = str(len(category.examples)) if category.examples else "-"
        kind = "thing" if category.thing else "region"
        table.add_row(*(Text(one_line(text)) for text in (category.name, kind, read, count)))
    out_console().print(table)
    made = {c.examples.space.model for c in words.rows if c.examples is not None}
    for model in sorted(made):
        print_line(f"its examples were made with {model}")
    return 0
