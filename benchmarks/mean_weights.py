"""The mean of two CLIPs, or proposers, of one training, weight by weight (Izmailov et al., 2018).

    python benchmarks/mean_weights.py clip-long clip-scenes --out clip
    python benchmarks/mean_weights.py teacher-scenes teacher-crowds --out teacher

It is often better than either, where both go back to the same weights, as the legs of one run do;
of two trainings from nothing it is noise. `portraits.py`, and `masqclip evaluate --oracle classes`,
say whether it was worth it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeVar

import cyclopts
from torch import nn

from masqclip.cli.output_files import check_folder
from masqclip.clip.loading import load_clip_and_tokenizer
from masqclip.clip.normalisation import clip_normalisation, write_normalisation
from masqclip.data.files import writing
from masqclip.data.json_files import read_json
from masqclip.errors import MasqclipError
from masqclip.hub import quiet_transformers
from masqclip.proposals.mask2former import Mask2FormerProposer
from mistakes import mistakes_told

Model = TypeVar("Model", bound=nn.Module)


def mean_weights(first: Model, second: Model) -> Model:
    """The first one, with the mean of both's weights, and of what its batch norms have seen.

    Raises:
        MasqclipError: they are not of the same sizes.
    """
    mine, theirs = first.state_dict(), second.state_dict()
    sizes = [{name: value.shape for name, value in state.items()} for state in (mine, theirs)]
    if sizes[0] != sizes[1]:
        raise MasqclipError("the two differ in their sizes: they are not of one training")
    first.load_state_dict(
        {
            name: (value + theirs[name]) / 2 if value.is_floating_point() else value
            for name, value in mine.items()
        }
    )
    return first


def main(
    first: Path, second: Path, *, out: Annotated[Path, cyclopts.Parameter(alias="-o")]
) -> None:
    """Write the mean of two CLIPs, or of two proposers.

    Args:
        first: The folder of a CLIP or a proposer; words and pixels are read as this CLIP does.
        second: The folder of another one of the same training.
        out: The folder to write.
    """
    check_folder(out)
    about = read_json(first / "config.json", what="the model")
    with quiet_transformers():
        if isinstance(about, dict) and about.get("model_type") == "mask2former":
            proposer, another = (
                Mask2FormerProposer.from_pretrained(folder).float() for folder in (first, second)
            )
            mean_weights(proposer, another)
            with writing(out):
                proposer.save_pretrained(out)
            return
        one, tokenizer = load_clip_and_tokenizer(first)
        two, other = load_clip_and_tokenizer(second)
        if tokenizer.get_vocab() != other.get_vocab():
            raise MasqclipError(f"{first} and {second} split words differently")
        mean_weights(one, two)
        normalisation = clip_normalisation(first)
        with writing(out):
            one.save_pretrained(out)
            tokenizer.save_pretrained(out)
            write_normalisation(out, normalisation, one.config.vision_config.image_size)


if __name__ == "__main__":
    with mistakes_told():
        cyclopts.run(main)
