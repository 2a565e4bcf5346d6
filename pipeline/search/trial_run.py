"""What Ray Tune runs for each trial: a training with the trial's values."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from pipeline.cluster import connection
from pipeline.core import stage_code
from pipeline.core.errors import SiteError, UserError, one_line
from pipeline.core.stage_code import check_host
from pipeline.data.manifest import Manifest
from pipeline.experiments.schema import ClusterConfig
from pipeline.search import objectives
from pipeline.search.spec import Search
from pipeline.search.trials import checkpoints_of
from pipeline.training import driver
from pipeline.training.denormals import flushed_denormals
from pipeline.training.resolved import fit
from pipeline.training.training_records import (
    Failed,
    Finished,
    TrainingJob,
    TrainingOutcome,
    TrainingReport,
)

NUMBER, KNOWN = "number", "known"  # keys of a trial's configuration next to its values


@dataclass(frozen=True)
class TrialSetting:
    """What all trials of a search have in common.

    Attributes:
        search: the search.
        resources: workers and CPUs of a trial.
        manifest: of the shards.
        shards: where every host reaches them.
        place: folder or URI of the search, where checkpoints of its trainings go.
        code_sha256: of the driver's code; None where its source is not at hand.
    """

    search: Search
    resources: ClusterConfig
    manifest: Manifest
    shards: str
    place: str
    code_sha256: str | None = None


def run_trial(drawn: Mapping[str, str | float], *, setting: TrialSetting) -> None:
    """Train with the values of a trial and report to Ray Tune, in Ray Tune's process.

    An invalid combination, or one whose loss is not finite, is reported as such; it does not
    fail the search.

    Arguments:
        drawn: the encoded values, the trial's number, and the last epoch that the search knows.
        setting: of all trials.
    """
    from ray import tune

    logging.getLogger("ray").setLevel(logging.WARNING)
    search = setting.search
    values = {p.name: p.decode(drawn[p.name]) for p in search.space}
    try:
        own = stage_code.code_sha256("train", str(search.base.model["name"]))
        check_host(setting.code_sha256, own)  # before other code refuses values that it lacks
        config = dataclasses.replace(search.experiment(values), cluster=setting.resources)
        job = driver.make_job(
            fit(config, setting.manifest),
            checkpoints_of(setting.place, int(drawn[NUMBER])),
            threads=setting.resources.cpus_per_worker or 1,
            quiet=True,
            shards=setting.shards,
            code_sha256=setting.code_sha256,
        )
        outcome = _train(job, setting, int(drawn[KNOWN]))
    except SiteError:  # which Ray Tune tries again, and a rerun
        raise
    except torch.OutOfMemoryError as error:  # of an accelerator, which the trial has alone
        outcome = Failed(one_line(error))
    except OSError as error:  # of a disk or a storage, whatever the trial has
        raise SiteError(one_line(error)) from error
    except UserError as error:
        outcome = Failed(str(error))
    if isinstance(outcome, Failed):
        tune.report(TrainingReport(problem=outcome.reason).to_dict())


def _train(job: TrainingJob, setting: TrialSetting, known: int) -> TrainingOutcome:
    """Train a trial from its last checkpoint on.

    What the checkpoint has and the search does not know is reported first: a kill may have come
    between the two. At least the last epoch is, so that Ray Tune has a result of a trial of which
    nothing is left to train.
    """
    from ray import tune

    from pipeline.search.trial_workers import TrialSession, trial_workers
    from pipeline.training.worker import Worker

    cluster = setting.resources
    session = TrialSession(0, connection.num_workers(cluster), cluster.use_gpu, known)
    with flushed_denormals(), trial_workers(job, cluster, session):
        worker = Worker(job, session)
        for report in worker.progress.reports(job.trainer.max_epochs):
            session.report(report)
        outcome = worker.run()
    if isinstance(outcome, Finished) and objectives.SECONDS in setting.search.plan.objectives:
        seconds = objectives.seconds_to_sample(worker.model)
        *_, last = worker.progress.reports(job.trainer.max_epochs)
        tune.report(last.to_dict() | {objectives.SECONDS: seconds})
    return outcome
