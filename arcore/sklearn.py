"""Densities of tables by scikit-learn's interface: fit, score, draw, complete and find odd rows.

An estimator takes arrays or data frames, in which cells may be missing. One any-order network
learns from the known cells, exactly, and answers p(these columns given those) for any columns.
This module needs scikit-learn and pandas; nothing of it is imported by `import arcore`.

Example:
    >>> import numpy as np
    >>> x = np.random.default_rng(0).normal(size=(60, 2)) * [1, 3]
    >>> density = DensityEstimator(max_epochs=4, random_state=0, verbose=False).fit(x)
    >>> density.score_samples(x).shape, density.sample(5).shape
    ((60,), (5, 2))
    >>> Imputer(max_epochs=4, random_state=0, verbose=False).fit_transform(x).shape
    (60, 2)
"""

from __future__ import annotations

import copy
import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from sklearn.base import BaseEstimator, DensityMixin, OutlierMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, check_random_state, validate_data
from torch import Tensor

from arcore import zoo
from arcore.columns import Column
from arcore.events import Table
from arcore.inference import data_frames
from arcore.inference.outlier_detection import Threshold
from arcore.model import AutoregressiveModel
from arcore.primitives.checks import require
from arcore.primitives.progress import progress_bar

MODEL = "any_order_transformer"
SIZES = ({"width": 32, "num_layers": 2}, {"width": 64, "num_layers": 3})  # tried in turn
LEARNING_RATE, WEIGHT_DECAY, AVERAGING = 4e-3, 1e-2, 0.98
BATCH = 128
PATIENCE = 15  # epochs without a lower validation loss, after which a size is trained no further
DRAWS = 32  # of a missing cell, whose mean `Imputer` takes
PARTS = 2048  # rows that are scored at once


class _TableEstimator(BaseEstimator):  # type: ignore[misc]
    """A table's columns and the network of its rows, which the estimators below share."""

    _calibrates = False  # whether half of the validation rows have no part in training at all

    def __init__(
        self,
        *,
        seconds: float = 60.0,
        max_epochs: int | None = None,
        validation_fraction: float = 0.15,
        random_state: Any = None,
        verbose: bool = True,
    ) -> None:
        self.seconds = seconds
        self.max_epochs = max_epochs
        self.validation_fraction = validation_fraction
        self.random_state = random_state
        self.verbose = verbose

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

    def fit(self, X: Any, y: object = None) -> Self:
        """Fit the network to the known cells of rows.

        A part of the rows, `validation_fraction`, chooses the size of the network and when to stop,
        within `seconds` of training or `max_epochs` for each size.

        Arguments:
            X: (rows, columns): an array, whose columns are reals, or a data frame, whose columns
                are what `arcore.inference.data_frames.table_of` takes them for. NaN and None are
                missing cells.
            y: ignored.

        Raises:
            ValueError: for fewer than two rows, a column without known cells, or infinite cells.
        """
        self._check_settings()
        frame = self._frame(X, reset=True)
        rows = len(frame)
        require(rows > 1, "X", "two rows or more", f"n_samples = {rows}")
        self.constants_ = _constants(frame)
        kept = [name for name in frame.columns if name not in self.constants_]
        seed = int(check_random_state(self.random_state).randint(1 << 31))
        self.table_ = self._table_of(frame[kept]) if kept else None
        held = max(1, round(self.validation_fraction * rows))
        self.held_scores_ = torch.zeros(held)
        if self.table_ is None:
            return self
        x = data_frames.to_tensor(frame[kept], self.table_, "X")
        order = np.random.default_rng(seed).permutation(rows)
        valid, learnt = x[torch.from_numpy(order[:held])], x[torch.from_numpy(order[held:])]
        unseen = valid
        if self._calibrates and held > 1:
            unseen, valid = valid[: held // 2], valid[held // 2 :]
        self.model_, self.validation_nats_ = self._trained(learnt, valid, seed)
        self.held_scores_ = _log_prob(self.model_, unseen)
        return self

    def _check_settings(self) -> None:
        number = isinstance(self.seconds, (int, float)) and not isinstance(self.seconds, bool)
        require(number and self.seconds > 0, "seconds", "a number above 0", self.seconds)
        fits = self.max_epochs is None or (type(self.max_epochs) is int and self.max_epochs > 0)
        require(fits, "max_epochs", "None or an integer above 0", self.max_epochs)
        share = self.validation_fraction
        fits = isinstance(share, float) and 0 < share < 1
        require(fits, "validation_fraction", "a number in (0, 1)", share)

    def _table_of(self, frame: pd.DataFrame) -> Table:
        if not self.from_frame_:
            return Table([_real(str(name), frame[name]) for name in frame.columns])
        return data_frames.table_of(frame)

    def _frame(self, X: Any, reset: bool = False) -> pd.DataFrame:
        """Return rows as a data frame with columns by name, after scikit-learn's checks."""
        if isinstance(X, pd.DataFrame):
            validate_data(self, X, reset=reset, skip_check_array=True)
            frame = X.rename(columns=str)
        else:
            x = validate_data(self, X, reset=reset, dtype="float64", ensure_all_finite="allow-nan")
            frame = pd.DataFrame(x, columns=[f"x{index}" for index in range(x.shape[1])])
        if reset:
            self.from_frame_, self.columns_ = isinstance(X, pd.DataFrame), list(frame.columns)
        elif not isinstance(X, pd.DataFrame):
            frame.columns = pd.Index(self.columns_)
        return frame

    def _numbers(self, frame: pd.DataFrame) -> Tensor:
        """Return the cells of the columns that vary."""
        kept = [name for name in self.columns_ if name not in self.constants_]
        if self.table_ is None:
            return torch.zeros(len(frame), 0, dtype=torch.float64)
        return data_frames.to_tensor(frame[kept], self.table_, "X")

    def _trained(
        self, learnt: Tensor, valid: Tensor, seed: int
    ) -> tuple[AutoregressiveModel, float]:
        """Train a network of each size until its validation loss rises; return the best one."""
        assert self.table_ is not None
        began = time.monotonic()
        best: tuple[float, AutoregressiveModel | None] = (math.inf, None)
        shown = self.verbose and sys.stderr.isatty()
        for number, size in enumerate(SIZES, 1):
            ends = began + self.seconds * number / len(SIZES)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                model = zoo.create_model(MODEL, self.table_, **size)
                with progress_bar(shown, self.max_epochs or 0, f"width {size['width']}") as step:
                    for found in _epochs(model, learnt, valid, self.max_epochs or sys.maxsize):
                        step(1)
                        if found[0] < best[0]:
                            best = found
                        if time.monotonic() > ends:
                            break
        nats, averaged = best
        require(averaged is not None, "X", "rows whose loss is a number", "NaN")
        assert averaged is not None
        # wide, so that a row has the same digits in any batch
        return averaged.double().eval().requires_grad_(False), nats

    def _log_prob(self, frame: pd.DataFrame) -> np.ndarray:
        """Return ln p of the known cells; a column of one value adds 0, or -inf for another."""
        x = self._numbers(frame)
        known = torch.zeros(len(frame), dtype=torch.float64)
        if self.table_ is not None:
            known = _log_prob(self.model_, x).double()
        found: np.ndarray = known.numpy().copy()
        for name, value in self.constants_.items():
            cells = frame[name]
            found[(cells.notna() & (cells != value)).to_numpy()] = -np.inf
        return found

    def _drawn(self, frame: pd.DataFrame, generator: torch.Generator) -> pd.DataFrame:
        """Fill missing cells with one draw given the known ones of the row."""
        filled = pd.DataFrame(index=frame.index)
        if self.table_ is not None:
            x = self._numbers(frame)
            with torch.no_grad():
                x = self.model_.impute(x, ~x.isnan(), generator=generator)
            filled = data_frames.to_frame(x, self.table_).set_index(frame.index)
        for name, value in self.constants_.items():
            filled[name] = value
        return filled[self.columns_]

    def _generator(self, random_state: Any = None) -> torch.Generator:
        given = self.random_state if random_state is None else random_state
        return torch.Generator().manual_seed(int(check_random_state(given).randint(1 << 31)))

    def _as_given(self, frame: pd.DataFrame) -> Any:
        """Return rows as `fit` got them: an array or a data frame."""
        return frame if self.from_frame_ else frame.to_numpy(dtype="float64")


class DensityEstimator(DensityMixin, _TableEstimator):  # type: ignore[misc]
    """The density of a table's rows: p(x), and p(some columns | others) for any choice of both.

        ln p(x) = sum_t ln p(x_s(t) | x_s(<t))  for an order s of the columns,

    by one network for all orders (`AnyOrderTransformer`). Names and integers have probabilities,
    reals a density in the units of the data. Missing cells are summed over, exactly.

    Arguments:
        seconds: the time that training may take.
        max_epochs: at most so many for each size of network; None leaves it to time and validation.
        validation_fraction: of the rows, which choose the size and when to stop.
        random_state: as scikit-learn has it; with `max_epochs` a fit is a function of it.
        verbose: show a bar on a terminal.

    Attributes:
        model_: the network, which `arcore.save` keeps.
        table_: its columns; None where no column varies.
        constants_: columns of one value, by name.
        validation_nats_: nats per validation row, an estimate of what new rows have.

    Reference:
        Uria, Murray and Larochelle, "A Deep and Tractable Density Estimator", ICML 2014.

    Example:
        >>> frame = pd.DataFrame({"kind": ["a", "b"] * 30, "size": [1.0, 2.5, 1.2] * 20})
        >>> density = DensityEstimator(max_epochs=3, random_state=0, verbose=False).fit(frame)
        >>> density.score_samples(frame, given=["kind"]).shape  # nats of size, given kind
        (60,)
        >>> density.sample(2, given={"kind": "b"})["kind"].tolist()
        ['b', 'b']
    """

    def score_samples(self, X: Any, given: Sequence[Any] = ()) -> np.ndarray:
        """Return ln p of the known cells of each row, (rows,) float64, in nats.

        Arguments:
            X: rows, as `fit` takes them.
            given: columns, by name or place, on whose cells the others are conditioned.
        """
        check_is_fitted(self)
        frame = self._frame(X)
        total = self._log_prob(frame)
        if not len(given):
            return total
        kept = [self._name(column, "given") for column in given]
        others = frame.astype(object).where(frame.columns.isin(kept)[None, :].repeat(len(frame), 0))
        return total - self._log_prob(others)

    def score(self, X: Any, y: object = None) -> float:
        """Return the sum of `score_samples`, in nats, as scikit-learn's densities do."""
        return float(self.score_samples(X).sum())

    def sample(
        self, n_samples: int = 1, random_state: Any = None, given: Mapping[Any, Any] | None = None
    ) -> Any:
        """Draw rows, (n_samples, columns): an array or a data frame, as `fit` got one.

        Arguments:
            n_samples: how many.
            random_state: of these draws; None takes the estimator's.
            given: values of some columns, by name or place, on which the others are conditioned.
        """
        check_is_fitted(self)
        require(type(n_samples) is int and n_samples > 0, "n_samples", "1 or more", n_samples)
        rows = pd.DataFrame(np.nan, index=range(n_samples), columns=self.columns_, dtype=object)
        for column, value in (given or {}).items():
            rows[self._name(column, "given")] = value
        return self._as_given(self._drawn(rows, self._generator(random_state)))

    def _name(self, column: Any, where: str) -> str:
        names = self.columns_
        if isinstance(column, (int, np.integer)) and str(column) not in names:
            fits = bool(0 <= column < len(names))
            require(fits, where, f"a place below {len(names)}", column)
            return str(names[column])
        require(str(column) in names, where, "columns of the table", column)
        return str(column)


class Imputer(TransformerMixin, _TableEstimator):  # type: ignore[misc]
    """Completes rows: missing cells by what is known of the row, or by draws from it.

    `transform` fills a real with the mean, and a name or an integer with the most frequent value,
    of draws from p(missing cells | known cells); `draws` returns the draws themselves, in which
    cells of a row fit together.

    Arguments:
        num_draws: for each row.
        seconds: the time that training may take.
        max_epochs: at most so many for each size of network; None leaves it to time and validation.
        validation_fraction: of the rows, which choose the size and when to stop.
        random_state: as scikit-learn has it.
        verbose: show a bar on a terminal.

    Example:
        >>> x = np.array([[1.0, 2.0], [np.nan, 1.0], [3.0, np.nan], [2.0, 2.0]] * 10)
        >>> imputer = Imputer(max_epochs=3, random_state=0, verbose=False).fit(x)
        >>> bool(np.isnan(imputer.transform(x)).any()), len(imputer.draws(x, 3))
        (False, 3)
    """

    def __init__(
        self,
        *,
        num_draws: int = DRAWS,
        seconds: float = 60.0,
        max_epochs: int | None = None,
        validation_fraction: float = 0.15,
        random_state: Any = None,
        verbose: bool = True,
    ) -> None:
        super().__init__(
            seconds=seconds, max_epochs=max_epochs, validation_fraction=validation_fraction,
            random_state=random_state, verbose=verbose,
        )  # fmt: skip
        self.num_draws = num_draws

    def transform(self, X: Any) -> Any:
        """Return rows without missing cells, an array or a data frame as `fit` got one."""
        check_is_fitted(self)
        fits = type(self.num_draws) is int and self.num_draws > 0
        require(fits, "num_draws", "1 or more", self.num_draws)
        frame = self._frame(X)
        filled = frame[self.columns_].copy()
        holes = filled.isna()
        rows = holes.any(axis=1).to_numpy()
        if rows.any():
            drawn = self._draws(frame[rows], self.num_draws, self._generator())
            for name in filled.columns[holes.any()]:
                each = pd.concat([one[name] for one in drawn], axis=1)
                middle = each.mean(axis=1) if self._is_real(name) else each.mode(axis=1)[0]
                filled.loc[rows, name] = filled.loc[rows, name].where(
                    ~holes.loc[rows, name], middle
                )
        return self._as_given(filled)

    def draws(self, X: Any, n: int, random_state: Any = None) -> list[Any]:
        """Return n completions of the rows, each drawn given the known cells."""
        check_is_fitted(self)
        frame = self._frame(X)
        drawn = self._draws(frame, n, self._generator(random_state))
        return [self._as_given(one) for one in drawn]

    def _draws(self, frame: pd.DataFrame, n: int, generator: torch.Generator) -> list[pd.DataFrame]:
        return [self._drawn(frame, generator) for _ in range(n)]

    def _is_real(self, name: str) -> bool:
        columns = () if self.table_ is None else self.table_.columns
        return any(column.name == name and not column.count for column in columns)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the columns' names."""
        check_is_fitted(self)
        return np.asarray(self.columns_, dtype=object)


class OutlierDetector(OutlierMixin, _TableEstimator):  # type: ignore[misc]
    """Finds odd rows at a stated false-positive rate, and says which cells make a row odd.

    A row is an outlier where ln p(row) is below the k-th smallest score of n rows that have no part
    in training, with k = floor(rate (n + 1)). A new row of the same distribution is one with
    probability k / (n + 1). Where n is below 1 / rate - 1, the rate is the smallest that n rows can
    tell, 1 / (n + 1).

    Arguments:
        rate: the false-positive rate.
        seconds: the time that training may take.
        max_epochs: at most so many for each size of network; None leaves it to time and validation.
        validation_fraction: of the rows, half of which choose the size and when to stop, and half
            the threshold.
        random_state: as scikit-learn has it.
        verbose: show a bar on a terminal.

    Attributes:
        threshold_: with its rate and the interval of that (`Threshold`).
        offset_: the score of the threshold, in nats.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(200, 2))
        >>> odd = OutlierDetector(max_epochs=5, random_state=0, verbose=False).fit(x)
        >>> odd.predict([[0.0, 0.0], [0.0, 30.0]]).tolist()
        [1, -1]
        >>> odd.cell_scores([[0.0, 30.0]]).argmax(1).tolist()  # the second cell is odd
        [1]
    """

    def __init__(
        self,
        *,
        rate: float = 0.05,
        seconds: float = 60.0,
        max_epochs: int | None = None,
        validation_fraction: float = 0.3,
        random_state: Any = None,
        verbose: bool = True,
    ) -> None:
        super().__init__(
            seconds=seconds, max_epochs=max_epochs, validation_fraction=validation_fraction,
            random_state=random_state, verbose=verbose,
        )  # fmt: skip
        self.rate = rate

    _calibrates = True

    def fit(self, X: Any, y: object = None) -> Self:
        """Fit the network and the threshold; see `DensityEstimator.fit`."""
        fits = isinstance(self.rate, float) and 0 < self.rate < 1
        require(fits, "rate", "a number in (0, 1)", self.rate)
        super().fit(X)
        scores = self.held_scores_
        self.threshold_ = Threshold.fit(scores, max(self.rate, 1 / (len(scores) + 1)))
        self.offset_ = self.threshold_.score
        return self

    def score_samples(self, X: Any) -> np.ndarray:
        """Return ln p of the known cells of each row, (rows,), in nats: low for outliers."""
        check_is_fitted(self)
        return self._log_prob(self._frame(X))

    def decision_function(self, X: Any) -> np.ndarray:
        """Return scores less the threshold, (rows,): negative for outliers."""
        return self.score_samples(X) - self.offset_

    def predict(self, X: Any) -> np.ndarray:
        """Return 1 for inliers and -1 for outliers, (rows,) int64."""
        return np.where(self.decision_function(X) < 0, -1, 1)

    def cell_scores(self, X: Any) -> np.ndarray:
        """Return -ln p(cell | the row's other known cells), (rows, columns), in nats.

        The highest cells of a row make it odd. Missing cells are NaN.
        """
        check_is_fitted(self)
        frame = self._frame(X)
        found = frame.isna().to_numpy() * np.nan
        found[~frame.isna().to_numpy()] = 0.0
        for place, name in enumerate(frame.columns):
            if name in self.constants_:
                cells = frame[name]
                found[(cells.notna() & (cells != self.constants_[name])).to_numpy(), place] = np.inf
            else:
                rest = frame.astype(object)
                rest[name] = np.nan
                found[:, place] = self._without(rest) - self._without(frame)
        found[frame.isna().to_numpy()] = np.nan
        return found

    def _without(self, frame: pd.DataFrame) -> np.ndarray:
        return _log_prob(self.model_, self._numbers(frame)).double().numpy()


def _constants(frame: pd.DataFrame) -> dict[str, Any]:
    """Return the columns whose known cells are all the same, with their value."""
    found = {}
    for name in frame.columns:
        values = frame[name].dropna()
        require(len(values) > 0, f"column {name!r}", "a known cell at least", "none")
        first = values.iloc[0]
        if bool((values == first).all()):
            found[name] = first
    return found


def _real(name: str, cells: pd.Series[Any]) -> Column:
    known = cells.dropna()
    mean, deviation = float(known.mean()), float(known.std(ddof=0))
    fits = math.isfinite(mean) and 0 < deviation < math.inf
    require(fits, f"column {name!r}", "numbers whose variance is one too", [mean, deviation])
    return Column(name=name, mean=mean, deviation=deviation)


@torch.no_grad()
def _log_prob(model: AutoregressiveModel, x: Tensor) -> Tensor:
    """Return ln p of the known cells of each row, (rows,); 0 where none is known."""
    parts = [data_frames.log_prob(model, part) for part in x.split(PARTS)]
    return torch.cat(parts) if parts else torch.zeros(0)


def _epochs(
    model: AutoregressiveModel, learnt: Tensor, valid: Tensor, most: int
) -> Iterator[tuple[float, AutoregressiveModel | None]]:
    """Train by epochs; yield the validation loss and a copy of the averaged weights if better."""
    rate, decay = LEARNING_RATE, WEIGHT_DECAY
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=decay)
    averaged, lowest, since, steps = copy.deepcopy(model), math.inf, 0, 0
    for _ in range(most):
        model.train()
        for part in torch.randperm(len(learnt)).split(BATCH):
            optimizer.zero_grad()
            model(learnt[part]).mean().backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            steps += 1
            with torch.no_grad():
                share = 1 - min(AVERAGING, steps / (steps + 10))
                for mean, weight in zip(averaged.parameters(), model.parameters(), strict=True):
                    mean.lerp_(weight, share)
        with torch.no_grad():
            parts = [averaged.eval().validation_loss(part).sum() for part in valid.split(PARTS)]
        nats = float(sum(parts)) / len(valid)
        better = nats < lowest
        lowest, since = min(nats, lowest), 0 if better else since + 1
        yield nats, copy.deepcopy(averaged) if better else None
        if since > PATIENCE:
            return
