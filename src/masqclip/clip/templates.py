"""Sentences that prompts are put into, with ``{}`` where the name goes."""

from __future__ import annotations

from masqclip.clip.name_limits import MAX_NAME_CHARACTERS, check_writable, shown
from masqclip.errors import MasqclipError

PLAIN_TEMPLATES = ("{}",)
#: Stands for the templates that a CLIP's own makers put names into (`Family.templates`).
TOWER = "tower"

# Views of the same thing that a photographer could name; averaged, they blur the accident of one.
CLIP_TEMPLATES = (
    "a photo of a {}.",
    "a photo of the {}.",
    "a photo of one {}.",
    "a photo of many {}.",
    "a photo of a small {}.",
    "a photo of a large {}.",
    "a close-up photo of a {}.",
    "a photo of a {} in the distance.",
    "a photo of part of a {}.",
    "a bright photo of a {}.",
    "a dark photo of a {}.",
    "a blurry photo of a {}.",
    "a picture with a {} in it.",
    "there is a {} in the scene.",
)


def check_template(template: object) -> None:
    """Refuse what is no sentence with a place for a name, and not `TOWER`.

    Raises:
        MasqclipError: it is none, or too long.
    """
    if not isinstance(template, str):
        raise MasqclipError(f"the template {shown(template)} is no string: give words and {{}}")
    check_writable(template, what="a template")
    if template == TOWER:
        return
    places = template.count("{}")
    if not places:
        raise MasqclipError(
            f"the template {shown(template)} has no place for the name: put {{}} where it goes"
        )
    if len(template) > MAX_NAME_CHARACTERS or places > 9:
        raise MasqclipError(
            f"the template {shown(template)} has {len(template):,} characters and {places} places "
            f"for the name: give at most {MAX_NAME_CHARACTERS:,} and 9"
        )
