"""scikit-learn's interface: its own checks, and what each estimator promises of tables."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks

from arcore.sklearn import DensityEstimator, Imputer, OutlierDetector
from tests.support.refusals import refuses

FEW: dict[str, Any] = {"max_epochs": 2, "random_state": 0, "verbose": False}
SOME: dict[str, Any] = {"max_epochs": 40, "random_state": 0, "verbose": False}
KINDS = (DensityEstimator, Imputer, OutlierDetector)


@parametrize_with_checks([kind(**FEW) for kind in KINDS])
def test_scikit_learns_checks(estimator: Any, check: Any) -> None:
    check(estimator)


def table(rows: int, seed: int = 0) -> pd.DataFrame:
    """A name that decides a real's mean, an integer near the real, and a column of one value."""
    generator = np.random.default_rng(seed)
    kind = generator.integers(0, 2, rows)
    size = 4.0 * kind + 0.3 * generator.normal(size=rows)
    count = np.clip(np.round(size) + 3, 0, 9).astype(int)
    names = np.array(["small", "large"])[kind]
    return pd.DataFrame({"kind": names, "size": size, "count": count, "unit": "m"})


def with_holes(frame: pd.DataFrame, share: float) -> pd.DataFrame:
    holes = np.random.default_rng(1).random(frame.shape) < share
    return frame.astype(object).mask(holes)


@pytest.fixture(scope="module")
def density() -> DensityEstimator:
    return DensityEstimator(**SOME).fit(with_holes(table(500), 0.2))


def test_a_density_learns_from_rows_with_holes(density: DensityEstimator) -> None:
    rows = table(200, seed=2)
    scores = density.score_samples(rows)
    independent = DensityEstimator(**SOME).fit(
        rows.apply(lambda column: column.sample(frac=1).values)
    )
    assert scores.mean() > independent.score_samples(rows).mean() + 0.5
    assert density.score(rows) == pytest.approx(scores.sum())
    other = rows.assign(unit="ft")
    assert bool(np.isneginf(density.score_samples(other)).all()), "a column of one value"
    assert density.score_samples(rows[rows.columns[::-1]][rows.columns]) == pytest.approx(scores)


def test_conditionals_are_the_joint_less_the_margin(density: DensityEstimator) -> None:
    rows = table(50, seed=3)
    given = density.score_samples(rows, given=["kind", "unit"])
    margin = density.score_samples(rows.assign(size=None, count=None))
    assert given + margin == pytest.approx(density.score_samples(rows))
    assert margin == pytest.approx(np.log(0.5), abs=0.3)
    drawn = density.sample(60, given={"kind": "large"})
    assert set(drawn["kind"]) == {"large"} and list(drawn.columns) == list(rows.columns)
    assert drawn["size"].mean() == pytest.approx(4, abs=1)
    pd.testing.assert_frame_equal(
        density.sample(3, random_state=1), density.sample(3, random_state=1)
    )


def test_an_imputer_fills_holes_by_the_rest_of_the_row() -> None:
    rows = table(400)
    imputer = Imputer(num_draws=16, **SOME).fit(with_holes(rows, 0.2))
    holes = rows.assign(size=np.nan)
    filled = imputer.transform(holes)
    plain = rows["size"].std()
    error = float(np.sqrt(((filled["size"].astype(float) - rows["size"]) ** 2).mean()))
    assert error < 0.4 * plain, "the mean of the column is off by its deviation"
    assert filled.drop(columns="size").equals(holes.drop(columns="size"))
    named = imputer.transform(rows.assign(kind=None))
    assert (named["kind"] == rows["kind"]).mean() > 0.9
    first, second = imputer.draws(holes[:50], 2)
    assert not first.isna().any().any() and not first["size"].equals(second["size"])


def test_a_detector_holds_its_rate_and_finds_the_odd_cell() -> None:
    rows = table(1000)[["size", "count"]].to_numpy(dtype=float)
    detector = OutlierDetector(rate=0.1, **SOME).fit(rows)
    new = table(1000, seed=5)[["size", "count"]].to_numpy(dtype=float)
    share = float((detector.predict(new) < 0).mean())
    interval = detector.threshold_
    assert interval.low - 0.03 <= share <= interval.high + 0.03
    odd = new[:100].copy()
    odd[:, 1] = 40
    assert bool((detector.predict(odd) == -1).all())
    assert bool((detector.cell_scores(odd).argmax(1) == 1).mean() > 0.9)
    odd[0, 0] = np.nan
    assert np.isnan(detector.cell_scores(odd)[0, 0])


@pytest.mark.parametrize("kind", KINDS)
def test_a_fit_is_a_function_of_the_seed(kind: type[Any]) -> None:
    rows = with_holes(table(60), 0.1)
    one, other = (clone(kind(**FEW)).fit(rows).held_scores_ for _ in range(2))
    assert one.tolist() == other.tolist()


def test_bad_input_is_one_clear_line() -> None:
    rows = table(30)
    fitted = DensityEstimator(**FEW).fit(rows)
    for call, parts in (
        (lambda: DensityEstimator(seconds=0).fit(rows), ["seconds: expected", "got 0"]),
        (lambda: DensityEstimator(max_epochs=0).fit(rows), ["max_epochs: expected", "got 0"]),
        (lambda: DensityEstimator(validation_fraction=1.0).fit(rows), ["validation_fraction: "]),
        (lambda: OutlierDetector(rate=2.0).fit(rows), ["rate: expected", "got 2.0"]),
        (lambda: fitted.score_samples(rows, given=["colour"]), ["given: ", "'colour'"]),
        (lambda: fitted.sample(0), ["n_samples: expected 1 or more, got 0"]),
        (
            lambda: fitted.score_samples(rows.assign(kind="tiny")),
            ["X: row 0, column 'kind'", "tiny"],
        ),
        (lambda: DensityEstimator(**FEW).fit(rows.assign(size=None)), ["column 'size'", "none"]),
    ):
        refuses(call, parts)
