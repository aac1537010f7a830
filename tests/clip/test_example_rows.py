"""How examples become a row among words: the formula by hand, and the weight beside words."""

from __future__ import annotations

import numpy as np
import pytest

from masqclip.clip.category import Category
from masqclip.clip.example_rows import REACH, WEIGHTS, Exampled, mix_examples
from masqclip.clip.examples import MAX_EXAMPLES, Examples, ExampleSpace, as_half
from masqclip.clip.vocabulary import Vocabulary
from masqclip.errors import MasqclipError

MEAN = np.array([0.5, 0.0, 0.0, 0.0], np.float32)
SPACE = ExampleSpace("one", np.eye(4, dtype=np.float32)[:2], MEAN, 0.8, 20.0)
OTHER = ExampleSpace("two", np.eye(4, dtype=np.float32)[2:], MEAN, 0.8, 20.0)
CONTEXT = as_half([0.0, 0.0, 0.5, 0.0])


def unit(*numbers: float) -> np.ndarray:
    array = np.array(numbers, np.float64)
    return array / np.linalg.norm(array)


def shown(*masks: np.ndarray, space: ExampleSpace = SPACE) -> Examples:
    return Examples(space, as_half(np.stack(masks)), CONTEXT)


def rows(*words: np.ndarray) -> np.ndarray:
    return np.stack(words).astype(np.float32)


def test_a_row_of_examples_alone_is_their_direction_laid_where_words_lie() -> None:
    masks = unit(0, 1, 1, 0), unit(0, 1, 1, 0.2)
    words = rows(unit(1, 1, 0, 0), unit(0, 0, 0, 1))  # the first is not read
    mixed = mix_examples(words, [Exampled(0, shown(*masks), worded=False)])
    halves = np.stack(masks).astype(np.float16).astype(np.float64)
    direction = unit(*halves.sum(0)) - CONTEXT
    expected = MEAN + REACH * 0.8 * unit(*direction)
    np.testing.assert_allclose(mixed[0], expected, atol=1e-6)
    assert np.array_equal(mixed[1], words[1])


def test_without_examples_rows_are_left_as_they_are() -> None:
    words = rows(unit(1, 1, 0, 0), unit(0, 0, 0, 1))
    assert mix_examples(words, []) is words


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_word_that_means_something_else_gets_no_weight(count: int) -> None:
    masks = [unit(0.3, 1, 0.5, 0.02 * i) for i in range(count)]
    words = rows(unit(0.3, -1, 0, 0), unit(0.5, 0, 0, -1), unit(0.5, 0, 0, 1))
    mixed = mix_examples(words, [Exampled(0, shown(*masks), worded=True)])
    alone = mix_examples(words, [Exampled(0, shown(*masks), worded=False)])
    assert np.allclose(mixed[0], alone[0], atol=1e-6)


@pytest.mark.parametrize("count", [1, 3])
def test_a_word_that_fits_keeps_most_of_the_row(count: int) -> None:
    word = unit(0.5, 1, 0, 0)
    # Each example is the word's picture with much of another direction.
    masks = [unit(0.2, 1, 0.4, 0.9 * (-1) ** i) for i in range(count)]
    words = rows(word, unit(0.5, 0, 0, -1), unit(0.5, 0, 0, 1))
    given = shown(*masks)
    mixed = mix_examples(words, [Exampled(0, given, worded=True)])[0].astype(np.float64)
    alone = mix_examples(words, [Exampled(0, given, worded=False)])[0].astype(np.float64)
    # The row lies on the line from the word to the examples: where?
    weight = float((mixed - word) @ (alone - word) / ((alone - word) @ (alone - word)))
    np.testing.assert_allclose(mixed, word + weight * (alone - word), atol=1e-5)
    assert min(abs(weight - one) for one in WEIGHTS) < 1e-3
    assert weight <= 0.45


@pytest.mark.parametrize(
    ("rival", "apart", "fits", "expected"),
    [
        (unit(0.5, 1, 0, 0.2), 0.1, 0.49, 0.6),
        (unit(0.5, 0.8, 0.4, 1.2), 0.8, 0.10, 1.0),
    ],
)
def test_beside_a_word_that_fits_examples_that_are_all_alike_have_to_earn_their_weight(
    rival: np.ndarray, apart: float, fits: float, expected: float
) -> None:
    # Whatever the word, these five alike are likeliest by themselves.
    wide = ExampleSpace("one", np.eye(4, dtype=np.float32)[:2], MEAN, 1.6, 10.0)
    mask = unit(0.2, 1, 0.4, apart)
    words = rows(unit(0.5, 1, 0, 0), rival, unit(0.5, 0, 0, -1))
    likely = np.exp(10 * words.astype(np.float64) @ mask)
    assert likely[0] / likely.sum() == pytest.approx(fits, abs=0.01)
    given = shown(*[mask] * 5, space=wide)
    mixed, alone = (
        mix_examples(words, [Exampled(0, given, worded=worded)])[0].astype(np.float64)
        for worded in (True, False)
    )
    word = words[0].astype(np.float64)
    np.testing.assert_allclose(mixed, word + expected * (alone - word), atol=1e-5)


def test_examples_of_several_categories_share_what_is_about_them() -> None:
    one = Exampled(0, shown(unit(0, 1, 0.5, 0)), worded=False)
    two = Exampled(
        1,
        Examples(SPACE, as_half([unit(0, 0, 0.5, 1)]), as_half([0.0, 0.5, 0.0, 0.0])),
        worded=False,
    )
    words = rows(unit(1, 0, 0, 0), unit(0, 1, 0, 0))
    together = mix_examples(words, [one, two])
    context = np.array([0.0, 0.25, 0.25, 0.0])
    for row, mask in ((0, unit(0, 1, 0.5, 0)), (1, unit(0, 0, 0.5, 1))):
        direction = mask.astype(np.float16).astype(float)
        direction = direction / np.linalg.norm(direction) - context
        expected = MEAN + REACH * 0.8 * unit(*direction)
        np.testing.assert_allclose(together[row], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: Examples(SPACE, as_half(np.zeros((0, 4))), CONTEXT), "is empty"),
        (lambda: Examples(SPACE, as_half([[1.0, 0, 0]]), CONTEXT), "not of 4 numbers"),
        (lambda: Examples(SPACE, as_half([[3.0, 0, 0, 0]]), CONTEXT), "not of length one"),
        (lambda: Examples(SPACE, as_half([[np.nan, 0, 0, 0]]), CONTEXT), "not of length one"),
        (lambda: Examples(SPACE, as_half([[1.0, 0, 0, 0]]), as_half([np.inf] * 4)), "context"),
        (lambda: Examples(SPACE, as_half([[1.0, 0, 0, 0]]), CONTEXT, (b"", b"")), "as many"),
        (lambda: Examples(SPACE, as_half([[1.0, 0, 0, 0]]), CONTEXT, (b"x" * 9000,)), "8,192"),
        (lambda: Category("mug", worded=False), "'mug' has neither words nor examples"),
        (lambda: shown(unit(1, 0, 0, 0)).joined(shown(unit(1, 0, 0, 0), space=OTHER)), "'two'"),
    ],
)
def test_what_cannot_be_examples_is_refused(made: object, said: str) -> None:
    with pytest.raises(MasqclipError, match=said):
        made()  # type: ignore[operator]


def test_examples_of_two_models_are_no_vocabulary() -> None:
    one = Category("mug", examples=shown(unit(1, 0, 0, 0)))
    two = Category("jug", examples=shown(unit(1, 0, 0, 0), space=OTHER))
    with pytest.raises(MasqclipError, match="made with 'one' and with 'two' cannot be compared"):
        Vocabulary((one, two))
    with pytest.raises(MasqclipError, match="cannot be compared"):
        Vocabulary((one,), distractors=(two,))


def test_there_may_be_ten_thousand_and_no_more() -> None:
    many = np.tile(unit(0, 1, 0, 0), (MAX_EXAMPLES, 1))
    full = Category("mug", examples=Examples(SPACE, as_half(many), CONTEXT))
    words = Vocabulary((full,))
    found = mix_examples(
        rows(unit(0, 1, 0, 0), unit(0, 0, 0, 1)), [Exampled(0, full.examples, True)]
    )
    assert np.isfinite(found).all()
    with pytest.raises(MasqclipError, match="10,001 examples, and a vocabulary may have 10,000"):
        words.joined(Vocabulary((Category("mug", examples=shown(unit(1, 0, 0, 0))),)))


def test_categories_of_one_name_are_joined() -> None:
    first = Vocabulary((Category("mug", examples=shown(unit(1, 0, 0, 0))), Category("fork")))
    second = Vocabulary(
        (
            Category("Mug", ("cup",), examples=shown(unit(0, 1, 0, 0))),
            Category("spoon", examples=shown(unit(0, 0, 1, 0)), worded=False),
        ),
        distractors=("knife",),
    )
    joined = first.joined(second)
    assert joined.names == ("mug", "fork", "spoon")
    assert joined.categories[0].prompts == ("mug", "cup")
    assert len(joined.categories[0].examples or ()) == 2
    assert not joined.categories[2].worded
    assert joined.distractors == ("knife",)
    # A name is read again where the other vocabulary reads it.
    assert second.joined(Vocabulary((Category("spoon"),))).categories[1].worded
