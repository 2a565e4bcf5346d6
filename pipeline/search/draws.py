"""What a search tries: the values of each trial, by its number and by what others found.

A draw is a function of the search's seed, the trial's number and the trials that ended before, so
that a search that was interrupted needs nothing but its trials to go on.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping

import numpy as np
import optuna

from pipeline.search.spec import Search

Drawn = dict[str, str | float]


class Draws:
    """Draws values by parameter name, as `Parameter.encode` writes them.

    By tree-structured Parzen estimators (Bergstra et al. 2011) of Optuna, which model of several
    objectives the trials that are best by rank of their fronts (Ozaki et al. 2020); or
    independently, each point of the grid in turn, if there is one. The first trial has the base
    experiment's own values, where a draw can give them and there is no grid.
    """

    def __init__(self, search: Search) -> None:
        self._search = search
        grids = [p for p in search.space if p.kind == "grid"]
        options = [[p.encode(value) for value in p.values] for p in grids]
        names = [p.name for p in grids]
        self._points = [dict(zip(names, one, strict=True)) for one in itertools.product(*options)]
        defaults = None if grids else search.defaults()
        self._first: Drawn | None = None
        if defaults is not None:
            self._first = {p.name: p.encode(defaults[p.name]) for p in search.space}
        self._count = len(search.plan.objectives)
        self._study: optuna.Study | None = None
        self._asked: dict[int, optuna.Trial] = {}
        if search.plan.searcher == "optuna":
            optuna.logging.set_verbosity(optuna.logging.WARNING)
            self._study = optuna.create_study(directions=["minimize"] * self._count)

    def draw(self, number: int) -> Drawn:
        """Return the values of a new trial, numbered from 1."""
        first = self._first if number == 1 else None
        if self._study is not None:
            return self._ask(self._study, number, first)
        if first is not None:
            return first
        generator = np.random.default_rng([self._search.plan.seed, number])
        drawn = {p.name: p.draw(generator) for p in self._search.space if p.kind != "grid"}
        point = self._points[(number - 1) % len(self._points)]
        return {p.name: (drawn | point)[p.name] for p in self._search.space}

    def resume(self, number: int, drawn: Mapping[str, str | float]) -> None:
        """Take in a trial that was drawn before and has not ended."""
        if self._study is not None:
            self._ask(self._study, number, drawn)

    def end(self, number: int, *values: float) -> None:
        """Take in what a trial that was drawn or resumed has of each objective.

        Where it failed, or lacks one, they are not finite or fewer.
        """
        if self._study is None:
            return
        trial = self._asked.pop(number)
        if len(values) == self._count and all(map(math.isfinite, values)):
            self._study.tell(trial, list(values))
        else:
            self._study.tell(trial, state=optuna.trial.TrialState.FAIL)

    def _ask(
        self, study: optuna.Study, number: int, given: Mapping[str, str | float] | None
    ) -> Drawn:
        if given is not None:
            study.enqueue_trial(dict(given))
        sequence = np.random.SeedSequence([self._search.plan.seed, number])
        study.sampler = optuna.samplers.TPESampler(seed=int(sequence.generate_state(1)[0]))
        trial = study.ask({p.name: p.distribution() for p in self._search.space})
        self._asked[number] = trial
        return dict(trial.params)
