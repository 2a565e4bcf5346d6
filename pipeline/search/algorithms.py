"""What Ray Tune gets of a search: what draws values, and what stops trials early."""

import itertools
import math
from collections.abc import Mapping, Sequence
from types import SimpleNamespace

import numpy as np
import optuna
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from pipeline.search.spec import SECONDS, SchedulerConfig, Search
from pipeline.search.trial_run import KNOWN, NUMBER
from pipeline.search.trials import TrialRecord
from pipeline.training.training_records import BEST, TIME

SAMPLERS = {"optuna": optuna.samplers.TPESampler, "random": optuna.samplers.RandomSampler}
Drawn = dict[str, str | float]  # values by parameter name, as `Parameter.encode` writes them


class TrialSource(Searcher):  # type: ignore[misc]
    """Gives Ray Tune its trials: first the interrupted ones, then new ones.

    A draw is a function of the search's seed, the trial's number and the trials that ended before,
    so that a search that was interrupted needs nothing but its trials to go on. The scheduler gets
    the epochs that an interrupted trial reported before.

    Optuna draws by tree-structured Parzen estimators (Bergstra et al. 2011), which model of several
    objectives the trials that are best by rank of their fronts (Ozaki et al. 2020); or
    independently, each point of the grid in turn, if there is one. The first trial has the base
    experiment's own values, where a draw can give them and there is no grid.
    """

    def __init__(
        self, search: Search, before: Sequence[TrialRecord], scheduler: TrialScheduler
    ) -> None:
        super().__init__(metric=BEST, mode="min")
        self._search, self._scheduler = search, scheduler
        grids = {p.name: list(map(p.encode, p.values)) for p in search.space if p.kind == "grid"}
        combined = itertools.product(*grids.values())
        self._points = [dict(zip(grids, one, strict=True)) for one in combined]
        defaults = None if grids else search.defaults()
        self._first = None if defaults is None else self._encoded(defaults)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        directions = [optuna.study.StudyDirection.MINIMIZE] * len(search.plan.objectives)
        self._study = optuna.create_study(directions=directions)
        self._interrupted = [record for record in before if not record.ended]
        known = {record.number for record in before}
        self._new = [n for n in range(1, search.total + 1) if n not in known]
        self._asked: dict[str, optuna.Trial] = {}
        for record in before:
            if record.ended:
                self._draw("", record.number, self._encoded(record.values))
                self._tell("", record.objectives)

    @property
    def left(self) -> int:
        """How many trials have not been given yet."""
        return len(self._interrupted) + len(self._new)

    def suggest(self, trial_id: str) -> Drawn | str:
        """Return the configuration of the next trial: its values, number and known epochs."""
        if self._interrupted:
            record = self._interrupted.pop(0)
            replay(self._scheduler, record, trial_id)
            drawn = self._draw(trial_id, record.number, self._encoded(record.values))
            return {**drawn, NUMBER: record.number, KNOWN: record.epochs}
        if not self._new:
            return str(self.FINISHED)
        number = self._new.pop(0)
        drawn = self._draw(trial_id, number, self._first if number == 1 else None)
        return {**drawn, NUMBER: number, KNOWN: 0}

    def on_trial_complete(
        self, trial_id: str, result: Mapping[str, object] | None = None, error: bool = False
    ) -> None:
        """Take in what a trial found; one that lacks an objective counts as failed."""
        found = [] if error or result is None else [result.get(BEST), result.get(SECONDS)]
        self._tell(trial_id, [value for value in found if isinstance(value, int | float)])

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Do nothing: the records of the trials are all that a search needs to go on."""

    def _encoded(self, values: Mapping[str, object]) -> Drawn:
        return {p.name: p.encode(values[p.name]) for p in self._search.space}

    def _draw(self, trial_id: str, number: int, given: Drawn | None) -> Drawn:
        """Return the values of a trial, given or new ones, and tell the study of them."""
        plan, space = self._search.plan, self._search.space
        fixed = self._points[(number - 1) % len(self._points)] if given is None else given
        if fixed:
            self._study.enqueue_trial(dict(fixed))
        seed = int(np.random.SeedSequence([plan.seed, number]).generate_state(1)[0])
        self._study.sampler = SAMPLERS[plan.searcher](seed=seed)
        trial = self._study.ask({p.name: p.distribution() for p in space})
        self._asked[trial_id] = trial
        return dict(trial.params)

    def _tell(self, trial_id: str, values: Sequence[float]) -> None:
        wanted = len(self._search.plan.objectives)
        fits = len(values) == wanted and all(map(math.isfinite, values))
        failed = None if fits else optuna.trial.TrialState.FAIL
        self._study.tell(self._asked.pop(trial_id), list(values) if fits else None, failed)


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
