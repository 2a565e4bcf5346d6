"""What Ray Tune runs for each trial: a training with the trial's values."""

from __future__ import annotations

import dataclasses
import logging
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from pipeline.core import private_apis, provenance, storage
from pipeline.core.errors import SiteError, UserError, one_line
from pipeline.core.stage_code import check_host
from pipeline.data.manifest import Manifest
from pipeline.experiments.schema import ClusterConfig
from pipeline.search import objectives
from pipeline.search.spec import Search
from pipeline.search.trials import CHECKPOINT, NUMBER
from pipeline.training import driver
from pipeline.training.checkpoints import Progress, read_progress
from pipeline.training.denormals import flushed_denormals
from pipeline.training.local_session import LocalSession
from pipeline.training.ray_trainer import make_trainer
from pipeline.training.records import (
    Failed,
    Finished,
    TrainingJob,
    TrainingOutcome,
    TrainingReport,
    outcome_from_dict,
)
from pipeline.training.resolved import fit
from pipeline.training.sessions import Checkpoint, TrialSession, is_there, newest_first


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
    number, checkpoint = int(drawn[NUMBER]), str(drawn[CHECKPOINT])
    try:
        own = provenance.code_sha256("train", str(search.base.model["name"]))
        check_host(setting.code_sha256, own)  # before other code refuses values that it lacks
        config = dataclasses.replace(search.experiment(values), cluster=setting.resources)
        resolved = fit(config, setting.manifest)
        threads = setting.resources.cpus_per_worker or 1
        job = driver.make_job(
            resolved, threads=threads, quiet=True,
            shards=setting.shards, code_sha256=setting.code_sha256,
        )  # fmt: skip
        if setting.alone:
            outcome: TrainingOutcome | None = _train_alone(job, setting, checkpoint)
        else:
            outcome = _train_together(job, setting, number)
    except SiteError:  # which Ray Tune tries again, and a rerun
        raise
    except torch.OutOfMemoryError as error:  # of an accelerator, which the trial has alone
        outcome = Failed(one_line(error))
    except OSError as error:  # of a disk or a storage, whatever the trial has
        raise SiteError(one_line(error)) from error
    except UserError as error:
        outcome = Failed(str(error))
    if isinstance(outcome, Failed) and outcome.environment:  # of one of several workers
        raise SiteError(outcome.reason)
    if isinstance(outcome, Failed):
        tune.report(TrainingReport(epoch=1, problem=outcome.reason).to_dict())


def groups_of(place: str, number: int) -> str:
    """Return the prefix under which the reservations of a trial of several workers are noted."""
    return f"{place}/{train_folder(number)}/"


def train_folder(number: int) -> str:
    """Return the name of the training of a trial of several workers, in every attempt at it."""
    return f"train-{number:06d}"


class ResumedSession(TrialSession):
    """The only worker of a trial that an earlier start of the search may have begun.

    Arguments:
        use_gpu: whether it has one.
        place: folder or URI of the search.
        checkpoint: of the earlier start, a folder below that; empty for none.
    """

    def __init__(self, use_gpu: bool, place: str, checkpoint: str) -> None:
        super().__init__(use_gpu)
        self._place, self._checkpoint = place, checkpoint

    def checkpoints(self) -> Iterator[Checkpoint]:
        """Yield those of Ray Tune, then those that the earlier start left, as far as they are."""
        import ray.tune

        yield from super().checkpoints()
        if self._checkpoint:
            filesystem, path = storage.filesystem(self._place)
            earlier = ray.tune.Checkpoint(f"{path}/{self._checkpoint}", filesystem)
            yield from filter(is_there, newest_first(earlier))


def _train_alone(job: TrainingJob, setting: TrialSetting, checkpoint: str) -> TrainingOutcome:
    session = ResumedSession(setting.resources.use_gpu, setting.place, checkpoint)
    with flushed_denormals():
        return _train_in(session, job, setting)


def _train_in(session: ResumedSession, job: TrainingJob, setting: TrialSetting) -> TrainingOutcome:
    from ray import tune

    from pipeline.training.worker import Worker

    worker = Worker(job, session)
    if _nothing_is_left(job, worker.progress):
        session.report(_last(worker.progress), None)
    outcome = worker.run()
    if isinstance(outcome, Finished) and objectives.SECONDS in setting.search.plan.objectives:
        seconds = objectives.seconds_to_sample(worker.model)
        tune.report(_last(worker.progress).to_dict() | {objectives.SECONDS: seconds})
    return outcome


def _nothing_is_left(job: TrainingJob, progress: Progress) -> bool:
    """Tell whether a trial was killed after its last epoch and before its end was kept.

    No epoch of it is reported then, and Ray Tune wants a result all the same.
    """
    return progress.epoch >= job.trainer.max_epochs or progress.stopped


def _last(progress: Progress) -> TrainingReport:
    """Return once more what the last epoch reported."""
    last = progress.history[-1]
    return TrainingReport(
        epoch=last.epoch, best_valid_nats=progress.best_nats, finished=True, record=last
    )


def _train_together(job: TrainingJob, setting: TrialSetting, number: int) -> TrainingOutcome | None:
    """Train with several workers; None where an earlier start of the search has done it all."""
    import ray.train
    from ray import tune
    from ray.tune.integration.ray_train import TuneReportCallback

    name, groups = train_folder(number), groups_of(setting.place, number)
    owner = uuid.uuid4().hex
    private_apis.own_groups(groups, owner)  # not an attempt whose process died
    progress = _progress(storage.join(setting.place, name))
    if _nothing_is_left(job, progress):
        tune.report(_last(progress).to_dict())
        return None
    callbacks = [TuneReportCallback(), private_apis.group_keeper(groups, owner)]
    quiet = "CRITICAL"  # a trial that is stopped leaves its trainer with workers that died
    trainer = make_trainer(setting.resources, job, setting.place, name, callbacks, quiet)
    try:
        return outcome_from_dict(trainer.fit().return_value)
    except ray.train.TrainingFailedError as error:  # of the cluster, not of the values
        raise RuntimeError(driver.cause(error)) from error


def _progress(place: str) -> Progress:
    """Return how far the training of a folder or URI came, by its newest checkpoint.

    One that is damaged says nothing: workers go on from the one before.
    """
    last = LocalSession(place, torch.device("cpu")).last()  # whose names are Ray Train's
    if last is None:
        return Progress()
    try:
        with last.as_directory() as folder:
            return read_progress(Path(folder))
    except (UserError, OSError):
        return Progress()
