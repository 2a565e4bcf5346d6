"""What Ray Tune gets of a search: what draws values, and what stops trials early."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import optuna
from ray.tune.search import Searcher

from pipeline.search.spec import SECONDS, SchedulerConfig, Search
from pipeline.search.trial_run import KNOWN, NUMBER
from pipeline.search.trials import TrialRecord
from pipeline.training.training_records import BEST, TIME

if TYPE_CHECKING:
    from ray.tune.schedulers import TrialScheduler


Drawn = dict[str, str | float]


class Draws:
    """Draws values by parameter name, as `Parameter.encode` writes them.

    A draw is a function of the search's seed, the trial's number and the trials that ended before,
    so that a search that was interrupted needs nothing but its trials to go on.

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


class TrialSource(Searcher):  # type: ignore[misc]
    """Gives Ray Tune its trials: first those that were interrupted, then new ones.

    Those that ended `before` enter the draws alone. The scheduler gets the epochs that an
    interrupted trial reported before.
    """

    def __init__(
        self, search: Search, before: Sequence[TrialRecord], scheduler: TrialScheduler
    ) -> None:
        super().__init__(metric=BEST, mode="min")
        self._search, self._scheduler = search, scheduler
        self._draws = Draws(search)
        self._interrupted = [record for record in before if not record.ended]
        known = {record.number for record in before}
        self._new = [n for n in range(1, search.total + 1) if n not in known]
        self._numbers: dict[str, int] = {}
        for record in before:
            if record.ended:
                self._draws.resume(record.number, self._encoded(record))
                self._draws.end(record.number, *record.objectives)

    @property
    def left(self) -> int:
        """How many trials have not been given yet."""
        return len(self._interrupted) + len(self._new)

    def suggest(self, trial_id: str) -> Drawn | str:
        """Return the configuration of the next trial: its values, number and known epochs."""
        if self._interrupted:
            record = self._interrupted.pop(0)
            replay(self._scheduler, record, trial_id)
            drawn = self._encoded(record)
            self._draws.resume(record.number, drawn)
            self._numbers[trial_id] = record.number
            return {**drawn, NUMBER: record.number, KNOWN: record.epochs}
        if not self._new:
            return str(self.FINISHED)
        number = self._new.pop(0)
        self._numbers[trial_id] = number
        return {**self._draws.draw(number), NUMBER: number, KNOWN: 0}

    def on_trial_complete(
        self, trial_id: str, result: Mapping[str, object] | None = None, error: bool = False
    ) -> None:
        """Tell the draws what a trial found."""
        given = result or {}
        values = [given.get(BEST), *([given[SECONDS]] if SECONDS in given else [])]
        known = [value for value in values if isinstance(value, int | float)]
        if error or len(known) < len(values):
            known = [math.inf]
        self._draws.end(self._numbers[trial_id], *known)

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Do nothing: the records of the trials are all that a search needs to go on."""

    def _encoded(self, record: TrialRecord) -> Drawn:
        return {p.name: p.encode(record.values[p.name]) for p in self._search.space}


def replay(scheduler: TrialScheduler, record: TrialRecord, trial_id: str) -> None:
    """Show a scheduler what a trial reported before, whatever it says to that."""
    trial = SimpleNamespace(trial_id=trial_id)  # all that a scheduler knows
    reports = [(row.epoch, row.best_valid_nats) for row in record.history]
    if record.problem:
        reports.append((1, math.inf))  # as `trial_run.run_trial` reports it
    scheduler.on_trial_add(None, trial)
    with np.errstate(invalid="ignore"):  # between infinite nats
        for epoch, nats in reports:
            scheduler.on_trial_result(None, trial, {TIME: epoch, BEST: nats})


def scheduler_of(asked: SchedulerConfig, before: Sequence[TrialRecord]) -> TrialScheduler:
    """Return Ray Tune's scheduler, which compares with the trials that ended before."""
    from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler

    if asked.name != "asha":
        return FIFOScheduler()
    scheduler = AsyncHyperBandScheduler(
        time_attr=TIME,
        metric=BEST,
        mode="min",
        max_t=10**9,  # a trial's own max_epochs may be part of the space, and ends it
        grace_period=asked.grace_epochs,
        reduction_factor=asked.reduction_factor,
    )
    for record in before:
        if record.ended:
            replay(scheduler, record, f"before-{record.number}")
    return scheduler
