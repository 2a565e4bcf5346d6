"""Ray Tune's configuration of a search: what draws values, and what stops trials early."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.search.spec import SchedulerConfig, Search
from pipeline.training.records import BEST, TIME

if TYPE_CHECKING:
    from ray.tune import TuneConfig
    from ray.tune.schedulers import TrialScheduler
    from ray.tune.search import SearchAlgorithm


def tune_config(search: Search, limit: int | None) -> TuneConfig:
    """Return Ray Tune's configuration of a search.

    Arguments:
        search: the search.
        limit: of trials at the same time; None for what fits.
    """
    from ray import tune

    plan = search.plan
    halves = plan.scheduler.name == "asha"  # which names the metric itself
    budget = plan.time_budget_minutes
    return tune.TuneConfig(
        metric=None if halves else BEST,
        mode=None if halves else "min",
        search_alg=_searcher(search),
        scheduler=_scheduler(plan.scheduler),
        num_samples=plan.num_trials,
        max_concurrent_trials=limit,
        time_budget_s=None if budget is None else 60 * budget,
        reuse_actors=True,
        trial_dirname_creator=lambda trial: f"trial-{trial.trial_id}",
    )


def _searcher(search: Search) -> SearchAlgorithm:
    """Return what draws values; the base experiment's own are the first, where a draw can be."""
    import optuna
    from ray.tune.search.basic_variant import BasicVariantGenerator
    from ray.tune.search.optuna import OptunaSearch

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    plan, defaults = search.plan, search.defaults()
    first = None
    if defaults is not None and not any(p.kind == "grid" for p in search.space):
        first = [{p.name: p.encode(defaults[p.name]) for p in search.space}]
    if plan.searcher == "optuna":
        return OptunaSearch(metric=BEST, mode="min", seed=plan.seed, points_to_evaluate=first)
    return BasicVariantGenerator(points_to_evaluate=first, random_state=plan.seed, max_concurrent=0)


def _scheduler(config: SchedulerConfig) -> TrialScheduler:
    from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler

    if config.name != "asha":
        return FIFOScheduler()
    return AsyncHyperBandScheduler(
        time_attr=TIME,
        metric=BEST,
        mode="min",
        max_t=10**9,  # a trial's own max_epochs may be part of the space, and ends it
        grace_period=config.grace_epochs,
        reduction_factor=config.reduction_factor,
        brackets=config.brackets,
    )
