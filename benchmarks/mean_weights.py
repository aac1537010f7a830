"""The mean of several CLIPs, or proposers, of one training, by weight (Izmailov et al., 2018).

    python benchmarks/mean_weights.py clip-long clip-scenes --out clip
    python benchmarks/mean_weights.py teacher-scenes teacher-crowds --out teacher

It is often better than any of them, where all go back to the same weights, as the legs of one run
do; of trainings from nothing it is noise. `portraits.py`, and `masqclip evaluate --oracle masks` or
`classes`, say whether it was worth it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, TypeVar

import cyclopts
from torch import nn

from masqclip.cli.output_files import check_folder
from masqclip.data.files import writing
from masqclip.data.json_files import read_json
from masqclip.errors import MasqclipError
from masqclip.hub import quiet_transformers
from masqclip.proposals.mask2former import Mask2FormerProposer
from masqclip.towers.loading import load_clip_and_tokenizer
from masqclip.towers.normalisation import clip_normalisation, write_normalisation
from mistakes import mistakes_told

Model = TypeVar("Model", bound=nn.Module)


def mean_weights(first: Model, others: Sequence[Model]) -> Model:
    """The first one, with the mean of all weights, and of what the batch norms have seen.

    Raises:
        MasqclipError: they are not of the same sizes.
    """
    states = [model.state_dict() for model in (first, *others)]
    sizes = [{name: value.shape for name, value in state.items()} for state in states]
    if any(other != sizes[0] for other in sizes):
        raise MasqclipError("they differ in their sizes: they are not of one training")
    first.load_state_dict(
        {
            name: sum(state[name] for state in states) / len(states)
            if value.is_floating_point()
            else value
            for name, value in states[0].items()
        }
    )
    return first


def main(folders: list[Path], *, out: Annotated[Path, cyclopts.Parameter(alias="-o")]) -> None:
    """Write the mean of CLIPs, or of proposers.

    Args:
        folders: Two or more of one training; words and pixels are read as the first CLIP does.
        out: The folder to write.
    """
    if len(folders) < 2:
        raise MasqclipError(f"{folders[0]} alone has no mean: give two folders or more")
    check_folder(out)
    about = read_json(folders[0] / "config.json", what="the model")
    with quiet_transformers():
        if isinstance(about, dict) and about.get("model_type") == "mask2former":
            proposers = [Mask2FormerProposer.from_pretrained(folder).float() for folder in folders]
            mean = mean_weights(proposers[0], proposers[1:])
            with writing(out):
                mean.save_pretrained(out)
            return
        clips, tokenizers = zip(*map(load_clip_and_tokenizer, folders), strict=True)
        for folder, tokenizer in zip(folders, tokenizers, strict=True):
            if tokenizer.get_vocab() != tokenizers[0].get_vocab():
                raise MasqclipError(f"{folders[0]} and {folder} split words differently")
        clip = mean_weights(clips[0], clips[1:])
        normalisation = clip_normalisation(folders[0])
        with writing(out):
            clip.save_pretrained(out)
            tokenizers[0].save_pretrained(out)
            write_normalisation(out, normalisation, clip.config.vision_config.image_size)


if __name__ == "__main__":
    with mistakes_told():
        cyclopts.run(main)
