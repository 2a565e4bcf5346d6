"""What Ray Tune runs for each trial: a training with the trial's values."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.core.errors import UserError
from pipeline.data.manifest import Manifest
from pipeline.experiments.schema import ClusterConfig
from pipeline.search.spec import Search
from pipeline.training import driver
from pipeline.training.ray_trainer import make_trainer
from pipeline.training.records import (
    Failed,
    TrainingJob,
    TrainingOutcome,
    TrainingReport,
    outcome_from_dict,
)
from pipeline.training.resolved import resolve


@dataclass(frozen=True)
class TrialSetting:
    """What all trials of a search have in common.

    Attributes:
        search: the search.
        resources: workers and CPUs of a trial.
        manifest: of the shards.
        place: folder or URI of the search, where checkpoints of its trainings go.
    """

    search: Search
    resources: ClusterConfig
    manifest: Manifest
    place: str

    @property
    def alone(self) -> bool:
        """Whether a trial is one worker, which Ray Tune's own process is then."""
        return self.resources.num_workers <= 1

    @property
    def needs(self) -> dict[str, float]:
        """What Ray Tune reserves for a trial."""
        if not self.alone:  # the workers are Ray Train's; the trial itself only waits for them
            return {"memory": 1.0}
        cpus = {"CPU": float(self.resources.cpus_per_worker or 1)}
        return cpus | {"GPU": 1.0} if self.resources.use_gpu else cpus


def run_trial(drawn: Mapping[str, str | float], *, setting: TrialSetting) -> None:
    """Train with the values of a trial and report to Ray Tune, in Ray Tune's process.

    A combination that cannot be, or whose loss is not finite, is reported as such; it does not
    fail the search.
    """
    from ray import tune

    logging.getLogger("ray").setLevel(logging.WARNING)  # it names each checkpoint
    search = setting.search
    values = {p.name: p.decode(drawn[p.name]) for p in search.space}
    name = f"train-{tune.get_context().get_trial_id()}"
    try:
        config = dataclasses.replace(search.experiment(values), cluster=setting.resources)
        resolved = resolve(config, setting.manifest)
        threads = setting.resources.cpus_per_worker or 1
        job = driver.make_job(resolved, threads=threads, quiet=True)
        outcome = (
            _train_alone(job, setting) if setting.alone else _train_together(job, setting, name)
        )
    except UserError as error:
        outcome = Failed(str(error))
    if isinstance(outcome, Failed):
        tune.report(TrainingReport(epoch=1, problem=outcome.reason).to_dict())


def _train_alone(job: TrainingJob, setting: TrialSetting) -> TrainingOutcome:
    from pipeline.training.sessions import TrialSession
    from pipeline.training.worker import Worker

    return Worker(job, TrialSession(setting.resources.use_gpu)).run()


def _train_together(job: TrainingJob, setting: TrialSetting, name: str) -> TrainingOutcome:
    import ray.train
    from ray.tune.integration.ray_train import TuneReportCallback

    callbacks = [TuneReportCallback()]
    trainer = make_trainer(setting.resources, job, setting.place, name, callbacks)
    try:
        return outcome_from_dict(trainer.fit().return_value)
    except ray.train.TrainingFailedError as error:
        return Failed(driver.cause(error))
