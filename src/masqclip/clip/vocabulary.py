"""Vocabularies: the names that an image is segmented by. Free of torch.

- A category has a name (what results call it), prompts (what CLIP reads; their embeddings are
  averaged, as in the paper) and a thing/stuff flag. COCO's ``tree-merged`` is read as "branch",
  "tree", "bush" and "leaves", and never as "tree-merged".
- A category may have examples, masks on pictures, beside its words or in their place
  (`masqclip.clip.examples`).
- Distractors are names that compete for masks and are never reported.
- Templates such as ``"a photo of a {}."`` wrap every prompt; the published figures use none.
- A vocabulary knows names, never positions: it can be cut and reordered freely.

How people write one down (lists, strings, files) is read in `masqclip.clip.name_lists`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Union

from masqclip.clip import name_lists
from masqclip.clip.category import Category, check_calibration, check_names
from masqclip.clip.examples import check_one_clip
from masqclip.clip.hierarchy import check_parents, path_of, spelled_alike
from masqclip.clip.name_items import NamedItem, tidy
from masqclip.clip.name_limits import (
    DEFAULT_LIMITS,
    MAX_TEMPLATES,
    NameLimits,
    shown,
    take,
    too_many,
)
from masqclip.clip.region_names import is_region
from masqclip.clip.saved_vocabulary import SavedVocabulary, write_vocabulary
from masqclip.clip.templates import PLAIN_TEMPLATES, check_template
from masqclip.data.class_lists import ClassEntry, class_list_descriptions, read_class_list
from masqclip.data.clip_text import reading
from masqclip.errors import MasqclipError

#: What asks for all there is, what a result then calls it, and a line about it.
EVERYTHING, UNNAMED = "everything", "object"
ABOUT_EVERYTHING = "all there is, unnamed, each with the name that comes nearest as a guess"

Names = Union[
    "Vocabulary",
    str,
    Path,
    Iterable[Union[str, "Category", Mapping[str, object]]],
    Mapping[str, Sequence[str]],
    Mapping[int, str],
]
"""What names are read from: see `Vocabulary.parse`."""


@dataclass(frozen=True)
class Vocabulary:
    """Categories in order, distractors, and the templates that all their prompts are put into.

    `assumed` are the names of regions that nobody called so (`masqclip.clip.region_names`): where
    things are counted one by one, they are things (`counted`).

    `parents` are pairs of a name and what it is a kind of (`masqclip.clip.hierarchy`): nothing more
    than a tree, whose inner names need not be categories. Those that CLIP reads alike are one name.

    `calibration` makes scores mean something (`masqclip.score_scale`). It is fitted on annotated
    pictures (`masqclip.evaluation.calibration`), and orders nothing anew.

    `unnamed` asks for all there is, whatever it is (``everything``, `masqclip.everything`).

    A sentence that comes of several prompts or templates of a category, as CLIP reads it, is
    counted once.

    Raises:
        MasqclipError: no category; a name given twice, or two that CLIP reads alike (letter case,
            width, HTML entities and blanks beside signs do not count:
            `masqclip.data.clip_text.reading`); two with the same prompts; one that is
            "background", or of which nothing is read; a template without ``{}``; parents that are
            no tree; or a calibration that is none.
    """

    categories: tuple[Category, ...]
    distractors: tuple[str | Category, ...] = ()
    templates: tuple[str, ...] = PLAIN_TEMPLATES
    assumed: tuple[str, ...] = ()
    parents: tuple[tuple[str, str], ...] = ()
    calibration: tuple[float, float, float] | None = None
    unnamed: bool = False

    def __post_init__(self) -> None:
        if not self.categories:
            raise MasqclipError("the vocabulary is empty: give at least one name")
        distractors = tuple(
            n.competing if isinstance(n, Category) else tidy(n, what="a distractor")
            for n in self.distractors
        )
        object.__setattr__(self, "distractors", distractors)
        check_names(self.rows)
        check_one_clip([c.examples for c in self.rows if c.examples is not None])
        object.__setattr__(self, "parents", spelled_alike(self.parents, self.names))
        check_parents(self.parents)
        check_calibration(self.calibration)
        if not self.templates:
            raise MasqclipError('no prompt template is given: use ("{}",) for bare names')
        for template in self.templates:
            check_template(template)

    def __len__(self) -> int:
        return len(self.categories)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The categories' names, in order."""
        return tuple(category.name for category in self.categories)

    @cached_property
    def stuff_ids(self) -> frozenset[int]:
        """Positions of the categories that are stuff."""
        return frozenset(i for i, category in enumerate(self.categories) if not category.thing)

    @cached_property
    def paths(self) -> tuple[tuple[str, ...], ...]:
        """For each category what it is a kind of, the widest first, and itself."""
        above = dict(self.parents)
        return tuple(path_of(name, above) for name in self.names)

    @cached_property
    def counted(self) -> Vocabulary:
        """The same with things for all that is not said to be stuff, as instances are asked for."""
        if not self.assumed:
            return self
        assumed = {*self.assumed}
        categories = (
            replace(category, thing=True) if category.name in assumed else category
            for category in self.categories
        )
        return replace(self, categories=tuple(categories), assumed=())

    @cached_property
    def rows(self) -> tuple[Category, ...]:
        """All that competes, "background" aside: the categories, then the distractors as such."""
        return (*self.categories, *self.document().rivals)

    @classmethod
    def parse(
        cls,
        value: Names,
        *,
        stuff: str | Iterable[str] = (),
        things: str | Iterable[str] = (),
        distractors: str | Path | Iterable[str] | Vocabulary = (),
        templates: str | Iterable[str] | None = None,
        limits: NameLimits = DEFAULT_LIMITS,
        files: bool = True,
    ) -> Vocabulary:
        """Read a vocabulary in any of the ways that people write one.

        Args:
            value: a vocabulary; a list of names, categories, or mappings with a ``name``; a mapping
                from names to synonyms (exactly these are embedded; none = the name), or between
                numbers and names; the path of a file; or a string, which is, in this order of
                trial, a JSON list or mapping, several lines as of a text file, the path of a file
                (ends in a suffix such as ``.txt``, begins like a path, or is one), the name of a
                built-in, names between commas, names that end in dots ("car. tire."), or a single
                name. Quotes make a name of what would be read otherwise: ``"./x", "traffic light,
                red"``. Files are text, tables, JSON, YAML, TOML, XML and label maps
                (`masqclip.clip.name_files`).
            stuff: names (of `value`) of regions; added to those already marked so. Names of which
                nobody says what they are, and that everybody takes for regions, are regions too
                (`masqclip.clip.region_names`).
            things: names (of `value`) that are counted, whatever else is said of them.
            distractors: names that compete and are never reported; added to those of `value`. A
                vocabulary, or the path of a file of names, competes with its examples.
            templates: strings with ``{}``, in place of those of `value`; ``tower`` stands for those
                of the CLIP's own makers.
            limits: how much there may be (`masqclip.clip.name_limits`); by default 100,000 names,
                1,000 characters in each, and 8 MB of text.
            files: whether a string may be the path of a file; not one that a stranger wrote.

        Raises:
            MasqclipError: whatever cannot be read as a vocabulary, with the remedy.
        """
        vocabulary = value if isinstance(value, Vocabulary) else _read(value, limits, files)
        counted = name_lists.split_names(things, what="the things", limits=limits)
        others = _distractors(distractors, limits, files)
        regions = name_lists.split_names(stuff, what="the stuff names", limits=limits)
        if isinstance(templates, str):
            templates = (templates,)
        elif not isinstance(templates, Iterable | None):
            raise MasqclipError(f"the templates are {shown(templates)}: give strings with {{}}")
        if others or regions or counted or templates is not None:
            kinds = _kinds(vocabulary, regions, counted)
            vocabulary = replace(
                vocabulary,
                categories=_marked(vocabulary, kinds),
                assumed=tuple(n for n in vocabulary.assumed if n not in kinds),
                distractors=(*vocabulary.distractors, *others),
                templates=vocabulary.templates
                if templates is None
                else tuple(take(templates, MAX_TEMPLATES, what="the templates")),
            )
        if vocabulary is not value:
            _check_size(vocabulary, limits)
        return vocabulary

    def subset(self, names: str | Iterable[str]) -> Vocabulary:
        """The categories of these names, in the order asked for; all else stays.

        A name finds its category if CLIP reads both alike: "Cat" finds "cat".

        Raises:
            MasqclipError: a name that is not in the vocabulary, or none at all.
        """
        asked = name_lists.split_names(names, what="the names")
        positions = self._find(asked, what="name")
        kept = tuple(self.categories[i] for i in positions)
        names = {category.name for category in kept}
        assumed = tuple(name for name in self.assumed if name in names)
        return replace(self, categories=kept, assumed=assumed)

    def joined(self, other: Vocabulary) -> Vocabulary:
        """This one with what another has: a category that both have gets the examples and prompts
        of both, and is a thing if it is one here; templates are those here, and what scores mean
        is what they mean here, if that is known here.

        Raises:
            MasqclipError: their examples are of different CLIPs, or one asks for everything.
        """
        return Vocabulary.from_document(self.document().joined(other.document()))

    def save(self, path: str | Path) -> None:
        """Write it as a JSON file that is read wherever a vocabulary is, examples included.

        Raises:
            MasqclipError: the file's name does not end in ``.json``.
        """
        write_vocabulary(self.document(), path)

    def document(self) -> SavedVocabulary:
        """All that it is made of, to be written."""
        return SavedVocabulary(**{f.name: getattr(self, f.name) for f in fields(SavedVocabulary)})

    @classmethod
    def from_document(cls, saved: SavedVocabulary) -> Vocabulary:
        """What `document` gave."""
        return cls(**{f.name: getattr(saved, f.name) for f in fields(SavedVocabulary)})

    def _find(self, names: Iterable[str], *, what: str) -> list[int]:
        where = {category.reading: i for i, category in enumerate(self.categories)}
        where |= {name: i for i, name in enumerate(self.names)}  # as written, they need no reading
        positions = []
        for name in names:
            place = where.get(name)
            if place is None:
                place = where.get(reading(name))
            if place is None:
                words = {word: c.name for c in self.categories for word in c.prompts}
                hint = name_lists.nearest(name, self.names, words)
                raise MasqclipError(f"the {what} {shown(name)} is not in the vocabulary{hint}")
            positions.append(place)
        return positions


def builtin_vocabularies() -> dict[str, str]:
    """The built-in vocabularies: name to a line about it."""
    return class_list_descriptions()


def load_builtin(name: str, *, readable_prompts: bool = False) -> Vocabulary:
    """A built-in vocabulary.

    Args:
        name: one of `builtin_vocabularies`.
        readable_prompts: part the words that Pascal Context runs together ("potted plant" for
            ``pottedplant``). Names stay as published; so do, without this, the prompts, because
            the published figures used them.

    Raises:
        MasqclipError: there is no built-in of that name.
    """
    return Vocabulary(class_categories(read_class_list(name).classes, readable=readable_prompts))


def class_categories(classes: Iterable[ClassEntry], *, readable: bool) -> tuple[Category, ...]:
    """A category for each class of a dataset.

    Args:
        classes: in order.
        readable: embed the prompts with parted words, where a class has some.
    """
    return tuple(
        Category(
            entry.name,
            entry.readable if readable and entry.readable else entry.prompts,
            thing=entry.thing is not False,
        )
        for entry in classes
    )


def _read(value: object, limits: NameLimits, files: bool) -> Vocabulary:
    if isinstance(value, str) and len(value) < 200:
        if (word := value.strip()) == EVERYTHING:
            return Vocabulary((Category(UNNAMED),), unnamed=True)
        if word in builtin_vocabularies():
            return load_builtin(word)
    known = tuple(builtin_vocabularies())
    items = name_lists.read_items(value, builtins=known, limits=limits, files=files)
    if isinstance(items, SavedVocabulary):
        return Vocabulary.from_document(items)
    categories = tuple(_category(item) for item in items)
    assumed = (
        category.name
        for item, category in zip(items, categories, strict=True)
        if isinstance(item, NamedItem) and item.thing is None and not category.thing
    )
    steps = [
        (name, parent)
        for item in items
        if isinstance(item, NamedItem) and item.above
        for parent, name in pairwise((*item.above, item.name))
    ]
    return Vocabulary(categories, assumed=tuple(assumed), parents=tuple(dict.fromkeys(steps)))


def _distractors(
    given: str | Path | Iterable[str] | Vocabulary, limits: NameLimits, files: bool
) -> tuple[str | Category, ...]:
    """Names that compete; or the categories of a vocabulary, or of a file of names."""
    in_file = isinstance(given, str) and files and name_lists.is_path(given.strip())
    if in_file or isinstance(given, Path):
        given = _read(given, limits, files)
    if isinstance(given, Vocabulary):
        if given.unnamed:
            raise MasqclipError(f"{EVERYTHING!r} cannot compete with names: give names")
        return tuple(category.competing for category in given.categories)
    return name_lists.split_names(given, what="the distractors", limits=limits)


def _category(item: object) -> Category:
    if isinstance(item, Category):
        return item
    if isinstance(item, NamedItem):
        thing = not is_region(item.name) if item.thing is None else item.thing
        return Category(item.name, item.prompts, thing=thing)
    raise MasqclipError(
        f"a vocabulary holds names, and {shown(item)} is of type {type(item).__name__}: "
        "give strings or Category objects"
    )


def _check_size(vocabulary: Vocabulary, limits: NameLimits) -> None:
    """What reading by parts cannot see: `Category` objects, and the templates of all prompts."""
    prompts = [prompt for category in vocabulary.categories for prompt in category.prompts]
    if len(vocabulary) > limits.names:
        raise too_many("the vocabulary", limits.names)
    if len(prompts) > limits.prompts:
        raise too_many("the synonyms of the vocabulary", limits.prompts)
    others = [c.name for c in vocabulary.rows[len(vocabulary) :]]
    number = len(prompts) + len(others)
    strings = number * len(vocabulary.templates)
    places = sum(template.count("{}") for template in vocabulary.templates)
    characters = sum(map(len, vocabulary.templates)) * number
    characters += places * sum(map(len, (*prompts, *others)))
    if strings > limits.strings or characters > 100 * limits.strings:
        raise MasqclipError(
            f"{number:,} prompts in {len(vocabulary.templates)} templates are {strings:,} strings "
            f"of {characters:,} characters, more than the limit of {limits.strings:,} strings of "
            "100: give fewer names or templates"
        )


def _kinds(
    vocabulary: Vocabulary, stuff: tuple[str, ...], things: tuple[str, ...]
) -> dict[str, bool]:
    """Which names are said to be things (true) and regions (false)."""
    kinds: dict[str, bool] = {}
    for names, thing, what in ((stuff, False, "stuff name"), (things, True, "thing")):
        for position in vocabulary._find(names, what=what):
            name = vocabulary.names[position]
            if kinds.setdefault(name, thing) != thing:
                raise MasqclipError(f"{shown(name)} is said to be a thing and stuff: say one")
    return kinds


def _marked(vocabulary: Vocabulary, kinds: Mapping[str, bool]) -> tuple[Category, ...]:
    return tuple(
        replace(category, thing=kinds.get(category.name, category.thing))
        for category in vocabulary.categories
    )
