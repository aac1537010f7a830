"""Weights by name: what is known, what is here, and what is fetched.

registry.py      the public models and presets that have names here
licences.py      what must be agreed to before it is fetched, and what was
local.py         what is on this machine: folders, and the Hub's own cache
repository.py    what a repository of the Hub holds, and which of it is needed
transfer.py      one file: goes on where it stopped, and is verified
download.py      a repository: settings first, then one kind of weights
find.py          a name -> folders, fetched first if need be
paper.py         the authors' checkpoint, which lies on a drive
quiet.py         transformers' own messages, held back
"""

from __future__ import annotations

from masqclip.hub.find import find_model, find_tokenizer, find_weights, model_folders
from masqclip.hub.local import Parts
from masqclip.hub.quiet import quiet_transformers
from masqclip.hub.registry import NamedModel, Preset, named_models, presets

__all__ = [
    "NamedModel",
    "Parts",
    "Preset",
    "find_model",
    "find_tokenizer",
    "find_weights",
    "model_folders",
    "named_models",
    "presets",
    "quiet_transformers",
]
