"""Outliers by probability: scores in bits, and a threshold of a stated false-positive rate."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from arcore import saving
from arcore.events import is_real
from arcore.inference.row_shapes import in_shape
from arcore.model import AutoregressiveModel
from arcore.primitives.checks import require

ROUNDING = 1e-6  # of a score, relative: sums of float32 differ by the size of a batch
Background = AutoregressiveModel | Callable[[Tensor], Any]


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _require_rate(rate: object) -> None:
    fits = _is_number(rate) and 0 < rate < 1  # type: ignore[operator]
    require(fits, "rate", "a number in (0, 1)", rate)


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """A score below which rows are outliers, and the false-positive rate of that.

    The k-th smallest score of n validation rows, k = floor(rate (n + 1)), less its rounding: a row
    that is scored again in a batch of another size must not cross its own score. A new row of the
    same distribution is below it with probability k / (n + 1) at most. For the validation rows at
    hand, the share below has the distribution Beta(k, n + 1 - k), and is smaller where scores are
    tied.
    `low` and `high` are the ends of its central interval of 95 % (Vovk, "Conditional Validity of
    Inductive Conformal Predictors", ACML 2012).
    """

    score: float
    rate: float
    low: float
    high: float
    num_rows: int

    @classmethod
    def fit(cls, scores: Tensor, rate: float = 0.05) -> Threshold:
        """Choose the threshold for scores of validation rows, (rows,), and its interval."""
        _require_rate(rate)
        rows = len(scores)
        rank = min(math.floor(rate * (rows + 1) + 1e-9), rows)
        least = math.ceil(1 / rate - 1e-9) - 1
        require(rank > 0, "validation", f"{least} rows or more for a rate of {rate}", rows)
        score = float(scores.double().kthvalue(rank).values)
        score -= ROUNDING * max(1.0, abs(score))
        require(math.isfinite(score), "validation", "rows of finite scores", score)
        low, high = (_share_below(rank, rows, probability) for probability in (0.025, 0.975))
        return cls(score=score, rate=rate, low=low, high=high, num_rows=rows)


def _share_below(rank: int, rows: int, probability: float) -> float:
    """Return a quantile of Beta(rank, rows + 1 - rank): x with P(Binomial(rows, x) >= rank)."""
    counts = torch.arange(rank, rows + 1, dtype=torch.float64)
    ways = math.lgamma(rows + 1) - (counts + 1).lgamma() - (rows - counts + 1).lgamma()
    low, high = 0.0, 1.0
    for _ in range(60):
        x = (low + high) / 2
        terms = ways + counts * math.log(x) + (rows - counts) * math.log1p(-x)
        low, high = (x, high) if terms.logsumexp(0).exp() < probability else (low, x)
    return (low + high) / 2


class OutlierDetector:
    """Tells outliers from events of a model's distribution, by scikit-learn's conventions.

    The score of an event is log2 p(x) + L(x): the higher, the more like the training data. L(x) is
    0, or the bits of x under a background: -log2 q(x) of another model (the likelihood ratio), or
    the length of a lossless code. It corrects for complexity, since simple events are probable.

    Arguments:
        model: an unconditional model; its bound stands for log p(x) where it isn't exact.
        rate: the false-positive rate to aim at.
        background: another model of the event, a function from events to bits (rows,), or None.
    """

    def __init__(
        self, model: AutoregressiveModel, rate: float = 0.05, background: Background | None = None
    ) -> None:
        _require_rate(rate)
        require(isinstance(model, AutoregressiveModel), "model", "a model", model)
        fits = background is None or callable(background)
        require(fits, "background", "a model, a function or None", background)
        for name, one in (("model", model), ("background", background)):
            if isinstance(one, AutoregressiveModel):
                require(one.condition_kind is None, name, "an unconditional model", one)
                require(one.event == model.event, name, f"a model of {model.event}", one.event)
        self.model, self.background, self.rate = model, background, rate
        self._threshold: Threshold | None = None

    @property
    def threshold(self) -> Threshold:
        """The fitted threshold; a ValueError before `fit`."""
        require(self._threshold is not None, "detector", "a fitted one (call fit first)", None)
        assert self._threshold is not None
        return self._threshold

    def fit(self, validation: Any) -> OutlierDetector:
        """Fit the threshold to rows that the model was not trained on; return the detector."""
        self._threshold = Threshold.fit(self.score_samples(validation, "validation"), self.rate)
        return self

    @torch.no_grad()
    def score_samples(self, x: Any, name: str = "x") -> Tensor:
        """Return scores in bits, (rows,): low for outliers.

        Rows have the event's shape, or one that `arcore.inference.row_shapes.in_shape` takes.
        """
        event, x = self.model.event, x if isinstance(x, Tensor) else torch.tensor(x)
        x = event.check(in_shape(x, event), name)
        parts = x.split(256)
        scores = torch.cat([-_bits(self.model, part) for part in parts])
        if self.background is None:
            return scores
        return scores + torch.cat([_bits(self.background, part) for part in parts])

    def decision_function(self, x: Any) -> Tensor:
        """Return scores minus the threshold, (rows,): negative for outliers."""
        return self.score_samples(x) - self.threshold.score

    def predict(self, x: Any) -> Tensor:
        """Return 1 for inliers and -1 for outliers, (rows,) int64."""
        return 1 - 2 * (self.decision_function(x) < 0).long()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the threshold as JSON; the models are saved by `arcore.save`."""
        content = {"format": saving.FORMAT, "threshold": vars(self.threshold)}
        Path(path).write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")

    def load(self, path: str | os.PathLike[str]) -> OutlierDetector:
        """Read the threshold of a detector of the same models; return this detector."""
        found = saving.read_object(Path(path), "file", "detector")
        try:
            threshold = Threshold(**found["threshold"])
        except (KeyError, TypeError) as error:
            raise ValueError(f"{path}: not a detector's: {error}") from None
        values = vars(threshold).values()
        fits = all(_is_number(value) and math.isfinite(value) for value in values)
        require(fits, str(path), "finite numbers", threshold)
        one = threshold
        fits = 0 < one.rate < 1 and 0 <= one.low <= one.high <= 1
        fits = fits and type(one.num_rows) is int and one.num_rows > 0
        require(fits, str(path), "rates in (0, 1), of one row or more", threshold)
        self._threshold, self.rate = threshold, threshold.rate
        return self


def _bits(source: Background, x: Tensor) -> Tensor:
    """Return the bits of events under a model or a function, (rows,) float64 on the CPU."""
    if isinstance(source, AutoregressiveModel):
        x = x.to(source.device, source.dtype if is_real(source.event) else None)
        return -source.log_prob(x).double().cpu() / math.log(2)
    found = source(x)
    try:
        bits = torch.as_tensor(found, dtype=torch.float64).cpu()
    except (TypeError, ValueError, RuntimeError):
        bits = torch.empty(0)
    fits = bits.shape == (len(x),) and bool(bits.isfinite().all())
    require(fits, "background", f"finite bits of shape ({len(x)},)", found)
    return bits
