"""`masqclip label`: a folder of pictures and names in, a dataset out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, Parameter

from masqclip.cli.console import Steps, print_error, print_left_out, print_line, print_notes
from masqclip.cli.models import check_size_option, check_system, fetch_models, load_segmenter
from masqclip.cli.output_files import check_folder
from masqclip.errors import MasqclipError

if TYPE_CHECKING:
    from masqclip.labelling.folder import LabelledFolder
    from masqclip.segmenter import Segmenter

app = App(
    name="label",
    usage="Usage: masqclip label DIR --vocabulary NAMES --format FORMAT [OPTIONS]",
    help_epilogue="""\
**Examples**

```text
# COCO instances: things by name, masks as run lengths
masqclip label photos -v "car, person, bicycle" --format coco --out street

# an ontology: what CLIP reads for each name, in a file of lines such as
#     container = shipping container; freight box
masqclip label yard -v ontology.txt --format yolo --split 0.1 --out yard-yolo

# pre-annotations that people correct
masqclip label photos -v "cat, dog" --format label-studio --regions polygon \\
    -o tasks

# every pixel: things and regions
masqclip label photos -v coco-panoptic --format panoptic --out panoptic
```

**What is written**

coco: annotations.json. yolo: images/, labels/ and data.yaml. label-studio: tasks.json and
config.xml. panoptic: panoptic.json and a PNG for each picture. Always: contact-sheet.png, some of
the pictures with their masks, to look at before anything is trained on them.

**Interrupted?**

Give the same command again: it does what is missing, and the files are those of one run. New
pictures of the folder are taken in, too. Pictures that cannot be read are listed in failed.json and
tried again each time.

**Exit code**

0 when the dataset is written, even if some pictures could not be read; 2 when none could, or
something is wrong with an option; 130 when interrupted.""",
)


@app.default
def label(
    folder: Annotated[Path, Parameter(name="DIR")],
    /,
    *,
    vocabulary: Annotated[str, Parameter(alias="-v", metavar="NAMES")],
    format: Annotated[Literal["coco", "yolo", "label-studio", "panoptic"], Parameter(alias="-f")],
    out: Annotated[Path, Parameter(alias="-o", metavar="DIR")] = Path("masqclip-labels"),
    task: Annotated[
        Literal["instance", "semantic", "panoptic"] | None, Parameter(alias="-t")
    ] = None,
    model: Annotated[str, Parameter(alias="-m", metavar="NAME")] = "masqclip-mini",
    min_score: float | None = None,
    level: Annotated[int | None, Parameter(metavar="N")] = None,
    not_: Annotated[str, Parameter(name="--not", metavar="NAMES", show_default=False)] = "",
    stuff: Annotated[str, Parameter(metavar="NAMES", show_default=False)] = "",
    things: Annotated[str, Parameter(metavar="NAMES", show_default=False)] = "",
    template: Annotated[list[str] | None, Parameter(metavar="TEXT")] = None,
    split: Annotated[float, Parameter(metavar="SHARE")] = 0.2,
    images: Literal["copy", "link"] = "copy",
    regions: Literal["brush", "polygon"] = "brush",
    image_url: Annotated[str | None, Parameter(metavar="URL")] = None,
    batch_size: Annotated[int, Parameter(metavar="N")] = 1,
    device: Annotated[str | None, Parameter(metavar="NAME")] = None,
    dtype: Literal["float32", "bfloat16", "float16"] | None = None,
    size: Annotated[str | None, Parameter(metavar="PIXELS")] = None,
    quiet: Annotated[bool, Parameter(alias="-q", show_default=False)] = False,
) -> int:
    """Turn a folder of pictures into a dataset that other tools open.

    Args:
        folder: The pictures, with those of its sub-folders.
        vocabulary: What to look for: names between commas (in double quotes where a name holds
            one), a built-in vocabulary, everything (objects of whatever class), or a file: a text
            file (one name a line; "name = prompt; prompt" gives a name its prompts, whose
            embeddings are averaged; "stuff:" before a region), JSON or TOML of names and prompts,
            or what other tools keep their classes in: data.yaml, obj.names, classes.csv, a COCO
            file, Label Studio's config.xml.
        format: The dataset's format.
        out: The folder to write: new, empty, or the same command's.
        task: instance: a mask for each thing. semantic: one for each name. panoptic: things
            counted, regions filled. The default is panoptic for panoptic, else instance.
        model: A model of this package, a folder, or a name on the Hugging Face Hub.
        min_score: Leave out what scores less, 0 to 1; 0.3, or what the vocabulary says of a name,
            unless given.
        level: Of names that are kinds of others ("animal > dog, cat"), label what is at this level
            of the tree: 0 = the widest names.
        not_: Names that compete for masks and are never reported, between commas, or a file of
            names or examples.
        stuff: Names of the vocabulary that are regions, not countable things; sky, grass and what
            else everybody takes for a region need not be said.
        things: Names of the vocabulary that are counted, whatever else is said of them.
        template: A sentence to put each prompt into, such as "a photo of a {}."; repeat it for
            several, which are averaged. "tower" stands for those of the CLIP's own makers.
        split: yolo: the share of pictures to validate on; 0 = no picture is set apart.
        images: yolo: copy the pictures, or link to them; those of formats that trainers do not
            open are converted to PNG.
        regions: label-studio: masks as brush strokes (exact) or polygons (easy to edit).
        image_url: label-studio: what stands before a picture's path in DIR; the default is the
            address of local files, for a document root that holds DIR.
        batch_size: Pictures at a time: more is faster on a GPU and takes more memory.
        device: cpu, cuda, cuda:1 or mps; the default is the best there is.
        dtype: The precision to compute in; the default suits the device.
        size: The size at which pictures are seen, in place of the model's own: SHORTEST, the
            shorter side in pixels, or SHORTEST:LONGEST.
        quiet: Print errors only.
    """
    from masqclip.options import check_count, check_share

    if min_score is not None:
        check_share(min_score, what="--min-score")
    if not 0 <= split < 1:
        raise MasqclipError(f"--split {split:g}: give a share from 0 to less than 1")
    check_count(batch_size, what="--batch-size")
    size = check_size_option(size)
    check_folder(out)
    from masqclip.clip.vocabulary import Vocabulary
    from masqclip.data.digests import digest_model
    from masqclip.data.folders import LeftOut
    from masqclip.hub import model_folders
    from masqclip.labelling.folder import default_task, find_pictures, label_folder
    from masqclip.labelling.formats import FormatSettings
    from masqclip.render.overlay import numbering_notes

    words = Vocabulary.parse(
        vocabulary, stuff=stuff, things=things, distractors=not_, templates=template
    )
    settings = FormatSettings(split, images, regions, image_url, model)

    def load() -> Segmenter:
        with steps.paused():  # for a note
            fetch_models(model)
            segmenter = load_segmenter(model, device=device, dtype=dtype, size=size, quiet=quiet)
            print_notes(segmenter.notes_on(words, task or default_task(format)), quiet=quiet)
        return segmenter

    def weights() -> str:
        # Now, as nothing is written before: a journal would refuse the task that is given next.
        check_system(model, task or default_task(format))
        return digest_model(*model_folders(model))

    left_out = LeftOut()
    names = find_pictures(folder, out, left_out)
    print_left_out(left_out, quiet=quiet)
    with Steps("pictures", total=len(names), hidden=quiet) as steps:
        done = label_folder(
            folder,
            names,
            words,
            out=out,
            load=load,
            kind=format,
            task=task,
            min_score=min_score,
            level=level,
            batch_size=batch_size,
            settings=settings,
            about={"dtype": dtype, "size": size},
            weights=weights,
            report=steps.show,
        )
    for error in done.failed.values():
        print_error(error, kind="warning: ")
    if done.sheet:
        print_notes(numbering_notes(words.names), quiet=quiet)
    if not quiet:
        _print_done(done)
    return 0


def _print_done(done: LabelledFolder) -> None:
    lines = [f"{done.pictures} pictures labelled, {done.segments} masks: {done.dataset}"]
    if done.failed:
        lines.append(f"{len(done.failed)} could not be read: failed.json beside it")
    if done.sheet:
        lines.append(f"look at some of them: {done.sheet}")
    for line in lines:
        print_line(line)
