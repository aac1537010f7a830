"""Names that are regions without being told: sky, grass, roads.

What is stuff is a matter of agreement, and the class lists that this package ships are that
agreement: a name counts as a region where every such list that has it, as a class or among its
prompts, and says which of the two it is, calls it stuff. "Tree" is one, "table" is not (ADE20K
counts tables). A few words of the same kind that no list has are added by hand.
"""

from __future__ import annotations

from functools import cache

from masqclip.data.class_lists import class_list_descriptions, read_class_list
from masqclip.data.clip_text import reading

#: The second miniature world, whose things are drawings: a tree on a sticker has an outline, and
#: says nothing of the trees of photographs.
_DRAWINGS = "stickers2"
# Skies, grounds, waters and vegetation that no list names so: what has no outline of its own.
_ADDED = (
    *("asphalt", "cloud", "concrete", "desert", "foliage", "forest", "ice", "lawn", "meadow"),
    *("ocean", "street", "terrain", "tile", "vegetation"),
)


def is_region(name: str) -> bool:
    """Whether a name is that of a region where nobody says so; its plural counts as it does."""
    word = reading(name)
    return any(form in region_names() for form in (word, *singulars(word)))


def singulars(word: str) -> tuple[str, ...]:
    """What a word may be the plural of."""
    found = []
    if word.endswith("ies"):
        found.append(word[:-3] + "y")
    if word.endswith("es"):
        found.append(word[:-2])
    if word.endswith("s") and not word.endswith("ss"):
        found.append(word[:-1])
    return tuple(found)


@cache
def region_names() -> frozenset[str]:
    """What CLIP reads of the names that are taken for regions."""
    regions: set[str] = set(_ADDED)
    counted: set[str] = set()
    for name in class_list_descriptions():
        if name.startswith(_DRAWINGS):
            continue
        for entry in read_class_list(name).classes:
            if entry.thing is None:
                continue
            # Synonyms between commas are those of a dictionary ("poster, ... bill, card"), of
            # which the first is what annotators called it.
            words = entry.prompts[:1] if "," in entry.name else entry.prompts
            kind = counted if entry.thing else regions
            kind.update(reading(word) for word in words)
    return frozenset(regions - counted)
