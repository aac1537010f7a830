"""Everything that a picture shows, without a name being asked for.

All proposals are reported as they are, each with its object score alone, and with the name of a
large list that comes nearest as a suggestion: to look through pictures nobody has words for yet, or
to label objects of whatever class. What distractors describe better is left out. Free of torch.
"""

from __future__ import annotations

from dataclasses import replace

from masqclip.clip.category import Category
from masqclip.clip.vocabulary import EVERYTHING, Vocabulary, load_builtin
from masqclip.errors import MasqclipError
from masqclip.own_world import OwnWorld
from masqclip.result import Task

#: What names are suggested from, where a model does not say what it has read.
_LARGEST = "ade20k-847"


def suggestions(words: Vocabulary, world: OwnWorld | None) -> Vocabulary:
    """The names that are suggested, all counted one by one; distractors stay what they are.

    Args:
        words: that ask for everything.
        world: what the model knows, if that is little: then its own names.
    """
    if world is None:
        known = load_builtin(_LARGEST).categories
    else:
        known = tuple(Category(name) for name in sorted(world.names))
    rivals = {rival.reading for rival in words.rows[len(words) :]}
    categories = tuple(
        replace(category, thing=True) for category in known if category.reading not in rivals
    )
    return replace(words, categories=categories)


def check_unnamed(words: Vocabulary, task: Task) -> None:
    """Refuse a task that needs names.

    Raises:
        MasqclipError: it is so.
    """
    if words.unnamed and task == "semantic":
        raise MasqclipError(
            f"{EVERYTHING!r} is found as instances or panoptic segments; semantic ones need names"
        )
