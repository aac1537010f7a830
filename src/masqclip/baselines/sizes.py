"""The sizes of what a system has of its own, as they stand in a model's configuration."""

from __future__ import annotations

from collections.abc import Mapping

from masqclip.configuration import MasQClipConfig
from masqclip.errors import MasqclipError


def system_sizes(config: MasQClipConfig, known: Mapping[str, tuple[int, int]]) -> dict[str, int]:
    """Whole numbers out of ``system_config``, which a folder may have brought.

    Args:
        config: the model's.
        known: for each size its default and the largest that is built.

    Raises:
        MasqclipError: a value is no such number.
    """
    sizes = {}
    for name, (default, largest) in known.items():
        value = config.system_config.get(name, default)
        if type(value) is not int or not 1 <= value <= largest:
            raise MasqclipError(
                f"system_config has {name} = {str(value)[:40]}; of {config.system} it is a whole "
                f"number from 1 to {largest}"
            )
        sizes[name] = value
    return sizes
