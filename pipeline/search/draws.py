"""What a search tries: the values of each trial, by its number and by what others found.

A draw is a function of the search's seed, the trial's number and the trials that ended before, so
that a search that was interrupted needs nothing but its trials to go on.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

import numpy as np

from pipeline.search.spec import Search

if TYPE_CHECKING:
    import optuna

Drawn = dict[str, str | float]


class Draws(Protocol):
    """Draws values by parameter name, as `Parameter.encode` writes them."""

    def draw(self, number: int) -> Drawn:
        """Return the values of a new trial, numbered from 1."""

    def resume(self, number: int, drawn: Mapping[str, str | float]) -> None:
        """Take in a trial that was drawn before and has not ended."""

    def end(self, number: int, *values: float) -> None:
        """Take in what a trial that was drawn or resumed has of each objective.

        Where it failed, or lacks one, they are not finite or fewer.
        """


def draws_of(search: Search) -> Draws:
    """Return what draws the values of a search, as its plan says."""
    return _Optuna(search) if search.plan.searcher == "optuna" else _Random(search)


def _first(search: Search) -> Drawn | None:
    """Return the base experiment's own values, the first trial's, where a draw can give them."""
    defaults = search.defaults()
    if defaults is None or any(p.kind == "grid" for p in search.space):
        return None
    return {p.name: p.encode(defaults[p.name]) for p in search.space}


class _Random:
    """Independent draws; each point of the grid in turn, if there is one."""

    def __init__(self, search: Search) -> None:
        self._search = search
        grids = [p for p in search.space if p.kind == "grid"]
        options = [[p.encode(value) for value in p.values] for p in grids]
        names = [p.name for p in grids]
        self._points = [dict(zip(names, one, strict=True)) for one in itertools.product(*options)]

    def draw(self, number: int) -> Drawn:
        first = _first(self._search)
        if number == 1 and first is not None:
            return first
        generator = np.random.default_rng([self._search.plan.seed, number])
        drawn = {p.name: p.draw(generator) for p in self._search.space if p.kind != "grid"}
        point = self._points[(number - 1) % len(self._points)]
        return {p.name: (drawn | point)[p.name] for p in self._search.space}

    def resume(self, number: int, drawn: Mapping[str, str | float]) -> None:
        pass

    def end(self, number: int, *values: float) -> None:
        pass


class _Optuna:
    """Tree-structured Parzen estimators (Bergstra et al. 2011), by Optuna.

    Of several objectives it models the trials that are best by rank of their fronts (Ozaki et al.
    2020).
    """

    def __init__(self, search: Search) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._search = search
        self._count = len(search.plan.objectives)
        self._study = optuna.create_study(directions=["minimize"] * self._count)
        self._asked: dict[int, optuna.Trial] = {}

    def draw(self, number: int) -> Drawn:
        first = _first(self._search)
        if number == 1 and first is not None:
            return self._ask(number, first)
        return self._ask(number, None)

    def resume(self, number: int, drawn: Mapping[str, str | float]) -> None:
        self._ask(number, drawn)

    def end(self, number: int, *values: float) -> None:
        from optuna.trial import TrialState

        trial = self._asked.pop(number)
        if len(values) == self._count and all(map(math.isfinite, values)):
            self._study.tell(trial, list(values))
        else:
            self._study.tell(trial, state=TrialState.FAIL)

    def _ask(self, number: int, given: Mapping[str, str | float] | None) -> Drawn:
        import optuna

        if given is not None:
            self._study.enqueue_trial(dict(given))
        sequence = np.random.SeedSequence([self._search.plan.seed, number])
        self._study.sampler = optuna.samplers.TPESampler(seed=int(sequence.generate_state(1)[0]))
        trial = self._study.ask({p.name: p.distribution() for p in self._search.space})
        self._asked[number] = trial
        return dict(trial.params)
