"""`masqclip download`: a model's weights, once, for any number of runs without a network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from masqclip.cli.console import print_error, print_line
from masqclip.cli.output_files import check_folder
from masqclip.errors import MasqclipError

if TYPE_CHECKING:
    from masqclip.hub.named import Download

app = App(
    name="download",
    usage="Usage: masqclip download NAME... [OPTIONS]",
    help_epilogue="""\
**Examples**

```text
# a CLIP and a proposer for photographs, about 3 GB; then --model photo
masqclip download photo

# the names there are, with sizes and licences
masqclip info --models

# into a folder, for a machine without a network: there, --model photo/
masqclip download photo --to photo

# weights that are not for commercial use: read their licence, agree once
masqclip download mask2former-swin-l-coco --accept-licence

# how much it would be, and how to fetch just these files without masqclip
masqclip download photo --dry-run
```

**How it goes**

Settings come first, and a model of a wrong type is refused then; of several copies of the weights
one is taken. What was interrupted goes on where it stopped when the same command is run again, and
every file is compared with the digest that the Hub gives. Without --to the files lie in the Hub's
own cache (the variable HF_HOME), where every program finds them.""",
)


@app.default
def download(
    *names: Annotated[str, Parameter(name="NAME")],
    to: Annotated[Path | None, Parameter(metavar="DIR")] = None,
    accept_licence: Annotated[bool, Parameter(show_default=False)] = False,
    dry_run: Annotated[bool, Parameter(show_default=False)] = False,
) -> int:
    """Fetch models: presets, CLIPs, proposers, by name or as owner/name of the Hugging Face Hub.

    Args:
        names: Of "masqclip info --models", or the Hub's owner/name.
        to: A folder to fetch into, instead of the Hub's cache; of one NAME.
        accept_licence: Agree to licences that forbid some uses; it is remembered.
        dry_run: Only say what would be fetched, and what would fetch it elsewhere.
    """
    from masqclip.hub.named import Download

    if not names:
        raise MasqclipError("no name given: masqclip download NAME, of 'masqclip info --models'")
    if to is not None:
        check_folder(to, "--to")
        if len(names) > 1:
            raise MasqclipError(f"--to takes one NAME, and {len(names)} are given")
    wanted = [Download.of(name) for name in names]
    if dry_run:
        for one in wanted:
            for line in one.plan():
                print_line(line)
        return 0
    for one in wanted:
        if accept_licence:
            one.accept()
        one.check_licences()
    for one in wanted:
        folder = _fetch(one, to)
        print_line(f"{one.name}: {folder}; {one.use(to)}")
    return 0


def _fetch(wanted: Download, to: Path | None) -> Path:
    """Fetch one name; the authors' checkpoint is converted as well."""
    preset = wanted.drive
    if preset is None:
        return wanted.fetch(to, tell=_tell)
    from masqclip.hub import find_weights
    from masqclip.hub.local import state_folder
    from masqclip.hub.paper import fetch_checkpoint

    out = to or state_folder(preset.name)
    if (out / "config.json").is_file():
        return out
    checkpoint = fetch_checkpoint(preset, state_folder("checkpoints"), tell=_tell)
    clip = find_weights(preset.clip, what="CLIP", tell=_tell)
    from masqclip.convert.files import convert_file

    convert_file(checkpoint, out, clip=clip)
    checkpoint.unlink()  # what is in it is in the folder now
    return out


def _tell(line: str) -> None:
    print_error(line, kind="")
