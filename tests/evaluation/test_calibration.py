"""Calibration by hand: errors, temperatures and least scores of detections that are known."""

from __future__ import annotations

import numpy as np
import pytest

from masqclip.errors import MasqclipError
from masqclip.evaluation import calibration
from masqclip.evaluation.calibration import Detections
from masqclip.score_scale import calibrated


def made(
    scores: list[float], right: list[bool], classes: list[int] | None = None, count: int = 1
) -> Detections:
    places = np.array(classes or [0] * len(scores), np.int64)
    truth = np.array(right, bool)
    annotated = np.bincount(places[truth], minlength=count) + 1  # one of each is never found
    names = tuple(f"name {i}" for i in range(count))
    return Detections(names, places, np.array(scores, float), truth, annotated)


def drawn(count: int, numbers: tuple[float, float, float], seed: int = 0) -> Detections:
    """Detections that are right in the share that a calibration makes of their scores."""
    chance = np.random.default_rng(seed)
    scores = chance.uniform(0.02, 0.98, count)
    shares = np.array([calibrated(score, numbers) for score in scores.tolist()])
    return made(scores.tolist(), (chance.random(count) < shares).tolist())


def test_the_expected_calibration_error_by_hand() -> None:
    # Two bins: four of 0.9, of which three are right; one of 0.1, which is.
    found = made([0.9] * 4 + [0.1], [True, True, True, False, True])
    expected = 0.8 * abs(0.9 - 0.75) + 0.2 * abs(0.1 - 1.0)
    assert calibration.expected_calibration_error(found) == pytest.approx(expected)


@pytest.mark.parametrize("numbers", [(2.0, 2.0, 0.0), (0.4, 0.4, 0.0), (1.2, 2.2, -0.3)])
def test_a_calibration_is_found_again(numbers: tuple[float, float, float]) -> None:
    fitted = calibration.fit_calibration(drawn(20_000, numbers, seed=1))
    for score in (0.05, 0.3, 0.5, 0.7, 0.95):
        assert calibrated(score, fitted) == pytest.approx(calibrated(score, numbers), abs=0.02)
    other = drawn(20_000, numbers, seed=2)
    after = calibration.expected_calibration_error(other.at(fitted))
    assert after < calibration.expected_calibration_error(other) / 3
    assert after < 2 * calibration.error_by_chance(other.at(fitted))


def test_chance_alone_makes_an_error() -> None:
    few, many = (drawn(count, (1.0, 1.0, 0.0), seed=3) for count in (200, 20_000))
    assert calibration.error_by_chance(few) > 5 * calibration.error_by_chance(many)
    assert calibration.error_by_chance(many) == pytest.approx(
        calibration.expected_calibration_error(many), abs=0.005
    )


@pytest.mark.parametrize("right", [True, False])
def test_nothing_can_be_fitted_to_what_is_all_right_or_all_wrong(right: bool) -> None:
    with pytest.raises(MasqclipError, match="of 3 detections"):
        calibration.fit_calibration(made([0.2, 0.5, 0.9], [right] * 3))


def test_a_least_score_is_where_f1_is_best() -> None:
    # 40 right ones from 0.6 up, 40 wrong ones below.
    scores = [*np.linspace(0.6, 0.99, 40), *np.linspace(0.05, 0.55, 40)]
    found = made(scores, [True] * 40 + [False] * 40)
    (least,) = calibration.fit_thresholds(found)
    assert least == pytest.approx(0.6, abs=0.001)
    assert calibration.f1_scores(found, [0.6])[0] == pytest.approx(2 * 40 / (40 + 41))
    assert calibration.f1_scores(found, [0.0])[0] == pytest.approx(2 * 40 / (80 + 41))


def test_a_least_score_has_the_precision_that_is_asked_for() -> None:
    chance = np.random.default_rng(0)
    scores = np.linspace(0.01, 0.99, 2000)
    found = made(scores.tolist(), (chance.random(2000) < scores).tolist())
    for precision in (0.6, 0.8, 0.9):
        (least,) = calibration.fit_thresholds(found, precision=precision)
        assert least is not None
        kept = found.scores >= least
        assert found.right[kept].mean() == pytest.approx(precision, abs=0.01)


def test_a_name_that_is_not_annotated_has_none() -> None:
    found = made([0.9, 0.8, 0.3], [True, True, False], [0, 0, 1], count=2)
    found.annotated[1] = 0
    least = calibration.fit_thresholds(found)
    assert least[1] is None
    assert least[0] is not None
    scores = calibration.f1_scores(found, [0.3, 0.3])
    assert np.isnan(scores[1])


def test_a_name_of_one_instance_leans_on_the_others() -> None:
    """One lucky detection of a low score does not open the door to all of its name."""
    scores = [*np.linspace(0.6, 0.99, 40), *np.linspace(0.05, 0.55, 40), 0.1]
    found = made(scores, [True] * 40 + [False] * 40 + [True], [0] * 80 + [1], count=2)
    _, lucky = calibration.fit_thresholds(found)
    assert lucky is not None
    assert lucky > 0.5


@pytest.mark.parametrize("precision", [None, 0.0, 0.5])
def test_nothing_is_reported_that_scores_less_than_all_that_was_looked_at(
    precision: float | None,
) -> None:
    found = made([0.9, 0.7, 0.0504], [True, True, True])
    (least,) = calibration.fit_thresholds(found, precision=precision)
    assert least == pytest.approx(0.051)


def test_precision_and_recall_by_hand() -> None:
    found = made([0.9, 0.8, 0.7], [True, False, True])
    recall, precision = calibration.precision_recall(found)
    np.testing.assert_allclose(recall, [1 / 3, 1 / 3, 2 / 3])
    np.testing.assert_allclose(precision, [1, 1 / 2, 2 / 3])
