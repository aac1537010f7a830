"""Open-vocabulary universal image segmentation (MasQCLIP, ICCV 2023).

Give it an image and a list of names; it returns instance, semantic or panoptic masks for them.
Names are imported on first use, so that ``import masqclip`` itself costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from masqclip.clip.vocabulary import Vocabulary
    from masqclip.configuration import MasQClipConfig
    from masqclip.errors import MasqclipError
    from masqclip.model import MasQClipModel
    from masqclip.result import Segmentation
    from masqclip.segment import Segment
    from masqclip.segmenter import Segmenter

_HOMES = {
    "MasQClipConfig": "masqclip.configuration",
    "MasQClipModel": "masqclip.model",
    "MasqclipError": "masqclip.errors",
    "Segment": "masqclip.segment",
    "Segmentation": "masqclip.result",
    "Segmenter": "masqclip.segmenter",
    "Vocabulary": "masqclip.clip.vocabulary",
}

__all__ = [
    "MasQClipConfig",
    "MasQClipModel",
    "MasqclipError",
    "Segment",
    "Segmentation",
    "Segmenter",
    "Vocabulary",
    "__version__",
]


def __getattr__(name: str) -> Any:
    """Import a public name from its room when it is first asked for (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'masqclip' has no attribute {name!r}")
    try:
        value = getattr(import_module(_HOMES[name]), name)
    except ImportError as error:
        from masqclip.errors import lacks_torch

        raise (lacks_torch(error) or error) from error
    globals()[name] = value
    return value
