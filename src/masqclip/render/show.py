"""A picture in front of somebody: in a notebook, or in a window."""

from __future__ import annotations

import os
import sys
from typing import Any

from PIL import Image, ImageShow

from masqclip.errors import MasqclipError


def show_picture(picture: Image.Image, *, title: str) -> None:
    """Show a picture below a notebook's cell, or else in the system's viewer.

    Args:
        picture: to show.
        title: of the window, where the viewer takes one.

    Raises:
        MasqclipError: there is neither a notebook nor a viewer.
    """
    if in_notebook():
        from importlib import import_module

        display: Any = import_module("IPython.display")
        display.display(picture)
        return
    screen = not sys.platform.startswith("linux") or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")
    )
    if not screen or not ImageShow.show(picture, title):
        raise MasqclipError(
            "there is no notebook here and no window to show a picture in: use .save('a.png')"
        )


def in_notebook() -> bool:
    """Whether this runs in a cell of Jupyter, Colab or the like."""
    ipython: Any = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    # A shell in a terminal is one as well, and shows no pictures.
    return shell is not None and getattr(shell, "kernel", None) is not None
