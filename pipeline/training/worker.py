"""The training loop that each worker runs.

A step's loss is added up on the device, and looked at only every `CHECK_EVERY` steps, when the
workers agree on what to do next: go on, save, stop, or give up on a loss that is not finite.
"""

import contextlib
import dataclasses
import errno
import logging
import math
import time

import torch

from arcore.process_tuning import flushed_denormals, tune_process
from arcore.units import nats_to_bits_per_dim
from pipeline.artifacts.origin import device_name
from pipeline.cluster.devices import exact
from pipeline.core import stage_code
from pipeline.core.errors import SiteError, UserError, one_line
from pipeline.core.redaction import redacted
from pipeline.core.stage_code import Disagreement
from pipeline.data.loading import open_split
from pipeline.data.manifest import read_manifest
from pipeline.data.shuffling import BatchPlan
from pipeline.tracking.tracked_run import TrackedRun
from pipeline.training import checkpoints, initial_weights, validation
from pipeline.training.checkpoint_store import CheckpointStore
from pipeline.training.collectives import Workers
from pipeline.training.learner import Learner
from pipeline.training.training_display import TrainingDisplay
from pipeline.training.training_records import (
    EpochRecord,
    Failed,
    Finished,
    Progress,
    Session,
    Stopped,
    TrainingJob,
    TrainingOutcome,
)

CHECK_EVERY = 50  # steps between the exchanges in which workers agree to go on
SAVE, STOP = 1, 2  # what rank 0 may request between two steps


def train_worker(given: dict[str, TrainingJob]) -> TrainingOutcome:
    """Train the `job` of a configuration as a worker of Ray Train."""
    import ray.train.torch

    logging.getLogger().setLevel(logging.WARNING)
    job, context = given["job"], ray.train.get_context()
    stop = CheckpointStore(job.checkpoints).stop_requested
    rank, world = context.get_world_rank(), context.get_world_size()
    device, noticed = ray.train.torch.get_device(), ray.train.get_preemption_info
    return run_job(job, Session(rank, world, device, stop, preempted=lambda: noticed() is not None))


def run_job(job: TrainingJob, session: Session) -> TrainingOutcome:
    """Train in a session; errors that a user can put right are returned as `Failed`."""
    began = False
    try:
        with flushed_denormals():
            worker = Worker(job, session)
            began = True
            return worker.run()
    except UserError as error:  # before the first step of all workers
        if began and session.world > 1:  # of this worker's part; others wait for it (see below)
            raise
        return Failed(str(error))
    except OSError as error:
        # Restarts would not help. Other workers wait for this one, so there it must raise.
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        if not full or session.world > 1:
            raise
        return Failed(f"cannot write a checkpoint: {one_line(error)}")


def check_agreement(job: TrainingJob) -> None:
    """Check that this host has a job's code and shards, where their hashes are known.

    Raises:
        Disagreement: naming the host of other code, whose gradients would be of another program,
            or the shards that were made again since the job was; no fault of a model's values.
    """
    stage_code.check_host(job.code_sha256, stage_code.code_sha256("train", str(job.model["name"])))
    wanted, got = job.dataset_sha256, read_manifest(job.shards).sha256
    if wanted not in (None, got):
        raise Disagreement(
            f"{redacted(job.shards)}: expected the shards that this training is of "
            f"({str(wanted)[:12]}), got {got[:12]}, made since; begin it again"
        )


class RunningLoss:
    """The summed nats of an epoch, kept on the device so that no step waits for them.

    Attributes:
        total: summed nats of this worker's rows, () float64.
        failed: the first step whose loss was not finite, inf if there is none, () float64.
    """

    def __init__(self, device: torch.device, so_far: float) -> None:
        self.total = torch.zeros((), dtype=torch.float64, device=device) + so_far
        self.failed = torch.full((), math.inf, dtype=torch.float64, device=device)

    def add(self, loss: torch.Tensor, step: int) -> None:
        """Add the loss of a step."""
        is_fine = torch.isfinite(loss) | torch.isfinite(self.failed)
        self.failed = torch.where(is_fine, self.failed, step)
        self.total += loss


class Worker:
    """One worker's training; every worker takes the same decisions from all-reduced numbers."""

    def __init__(self, job: TrainingJob, session: Session) -> None:
        self.job, self.config, self.session = job, job.trainer, session
        torch.set_num_threads(job.threads)
        self.device, self.store = exact(session.device), CheckpointStore(job.checkpoints)
        self.workers = Workers(session.rank, session.world, session.device)
        tune_process(flush_denormals=False)  # `run_job` does that for its time
        # before other code refuses the model
        self.workers.run_on_all_ranks(lambda: check_agreement(job))
        self.learner = Learner(job, self.workers)
        self.model = self.learner.model
        self.workers.run_on_all_ranks(self._open_splits)
        self.progress = Progress()
        self._asked_at_end = 0  # what the workers agreed to do after the epoch
        self._noticed = False  # that a node goes away
        self.best = checkpoints.weights_of(self.model)
        self.learner.wrap(self._restore())
        self._settle_precision()
        every = self.config.max_epochs * self.train.steps_per_epoch
        self._total_steps = min(every, self.config.max_steps or every)
        self.display = TrainingDisplay(
            -(-self._total_steps // self.train.steps_per_epoch), self._total_steps,
            self.progress.step, shown=session.rank == 0 and not job.quiet,
        )  # fmt: skip
        self._saved, self._lap_began = time.monotonic(), time.perf_counter()
        self.tracked = TrackedRun(job.run_id if session.rank == 0 else None)

    def _open_splits(self) -> None:
        config, session = self.config, self.session
        if self.model.event.is_open and self.model.receptive_field is not None:
            field = f"receptive field: {self.model.receptive_field:,} samples"
            self._print_on_rank_zero(field)
        ordered = BatchPlan(
            rank=session.rank, world_size=session.world, shuffle_rows=config.shuffle_rows
        )
        shuffled = dataclasses.replace(
            ordered,
            batch_size=config.batch_size,
            seed=config.seed,
            window=config.window,
            transpose=config.transpose,
            first_rows=config.train_rows,
        )
        self.train = open_split(self.job.shards, "train", self.model, shuffled)
        self.valid = open_split(self.job.shards, "valid", self.model, ordered)

    def _print_on_rank_zero(self, line: str) -> None:
        if self.session.rank == 0:
            print(line, flush=True)

    # -- going on from a checkpoint

    def _restore(self) -> int:
        """Go on from the newest checkpoint that is whole; return the steps behind its weights."""
        restored = self.workers.run_on_all_ranks(self._load_newest_whole)
        progress, world = self.progress, self.workers.world
        behind = progress.step  # also where their epoch begins again
        if world > 1:
            hosts = ", ".join(self.workers.hosts())
            self._print_on_rank_zero(f"{world} workers: {hosts}")
            if not self.workers.agree(progress.step):
                raise RuntimeError("workers see different checkpoints: is the storage shared?")
        if restored:
            midway = f" and {progress.steps_in_epoch} steps" if progress.steps_in_epoch else ""
            self._print_on_rank_zero(f"resumes after epoch {progress.epoch}{midway}")
            if midway and progress.world != world and self.train.partitioned_by_rank:
                self._print_on_rank_zero(
                    f"warning: {progress.world} workers had shared out its rows; begins the epoch "
                    f"again with {world}"
                )
                progress.restart_epoch()
        progress.world = world
        return behind

    def _settle_precision(self) -> None:
        """Go on in the precision of the steps before; `auto` may be another on this hardware."""
        learner, kept = self.learner, self.progress.precision
        if kept not in (None, learner.precision):
            self._print_on_rank_zero(
                f"precision: {kept}, as before; auto would be {learner.precision} here"
            )
            learner.precision = str(kept)
        elif self.config.precision == "auto" and learner.precision != "bfloat16":
            self._print_on_rank_zero("precision: float32, since bfloat16 is no faster here")
        self.progress.precision = learner.precision

    def _load_newest_whole(self) -> bool:
        damage: Exception | None = None
        for name in self.store.names():
            try:
                with self.store.opened(name) as folder:
                    self.progress, self.best = checkpoints.load(folder, self.job, self.learner)
                return True
            except checkpoints.OfOtherCode as error:
                kept = redacted(self.store.place)
                again = f"or remove {kept} to begin again (--fresh of stages.train does)"
                raise SiteError(f"{error}, {again}") from None
            except (UserError, OSError) as error:
                damage = error
                what = f"warning: {one_line(error)}; trying the checkpoint before it"
                self._print_on_rank_zero(what)
        if damage is not None:
            kind = SiteError if isinstance(damage, SiteError | OSError) else UserError
            raise kind(f"no checkpoint is whole; the oldest: {one_line(damage)}")
        if self.job.initial_weights is not None:
            models = {self.model, self.learner.evaluated}
            initial_weights.load(self.job.initial_weights, self.job.initial_sha256, *models)
            self.best = checkpoints.weights_of(self.model)
        return False

    # -- the loop

    def run(self) -> TrainingOutcome:
        """Train to the last epoch, an early stop, or a request to leave."""
        with contextlib.closing(self.display.bar):
            try:
                while not self.progress.is_finished(self.config):
                    ended = self._epoch()
                    if ended is not None:
                        return ended
            finally:
                self.store.wait()
                self.tracked.update(self.progress.curves())
        parameters = sum(p.numel() for p in self.model.parameters())
        return Finished(parameters, device_name(self.device), self.progress)

    def _epoch(self) -> Failed | Stopped | None:
        """Train one epoch, validate, log and checkpoint; return how the training ended, if so."""
        progress = self.progress
        self.model.train()  # validation has left it in evaluation, unless an average was validated
        self._asked_at_end = 0
        self._lap_began = time.perf_counter()
        running = RunningLoss(self.device, progress.loss_in_epoch if self.workers.rank == 0 else 0)
        ended = self._train_epoch(running)
        if ended is not None:
            return ended
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        nats = self.workers.total(running.total)
        self._add_lap()
        mean = nats / progress.rows_in_epoch / self.train.events_per_row
        progress.end_epoch()
        valid, bits = None, None
        is_last = progress.epoch == self.config.max_epochs or progress.is_last(self.config)
        if is_last or progress.epoch % self.config.validate_every == 0:
            valid, bits = self._validate()
            if not math.isfinite(valid):
                return Failed(self._not_finite("validation", progress.step))
        record = EpochRecord(
            epoch=progress.epoch,
            step=progress.step,
            seconds=round(progress.seconds, 3),
            learning_rate=self.learner.learning_rate,
            train_nats=mean,
            valid_nats=valid,
            valid_bits_per_dim=bits,
            best_valid_nats=progress.best_nats,
        )
        progress.history.append(record)
        finished = is_last or progress.stopped
        self._report(record, finished)
        if self._asked_at_end == STOP and not finished:
            return Stopped(progress.step, progress.epoch + 1)
        return None

    def _train_epoch(self, running: RunningLoss) -> Failed | Stopped | None:
        progress, last = self.progress, self.train.steps_per_epoch
        for batch in self.train.epoch(progress.epoch, progress.steps_in_epoch):
            running.add(self.learner.step(batch, progress.step, self._total_steps), progress.step)
            progress.step += 1
            progress.steps_in_epoch += 1
            progress.rows_in_epoch += batch.rows
            self.display.bar.update()
            requested = self._requested_action()
            at_end = progress.steps_in_epoch == last or progress.is_last(self.config)
            alone = requested and self.workers.world == 1
            if at_end or progress.step % CHECK_EVERY == 0 or alone:
                ended = self._exchange(running, requested, at_end)
                if ended is not None:
                    return ended
            if progress.is_last(self.config):
                break
        return None

    def _exchange(
        self, running: RunningLoss, requested: int, at_end: bool
    ) -> Failed | Stopped | None:
        """Agree with the other workers on what to do after a step, and do it."""
        progress, told = self.progress, self.session.preempted
        if told is not None and not self._noticed and told():
            self._noticed, requested = True, max(requested, SAVE)
            self._print_on_rank_zero("a node goes away; saves a checkpoint")
        # the highest request of all, by way of a minimum
        highest = running.failed.new_tensor(-requested)
        first_failed, action = self.workers.minimum(torch.stack([running.failed, highest]))
        if math.isfinite(first_failed):
            return Failed(self._not_finite("training", int(first_failed)))
        events = progress.rows_in_epoch * self.train.events_per_row
        self.display.loss(progress.epoch + 1, running.total / events)
        if at_end:
            self._asked_at_end = -int(action)
            return None
        if action == 0:
            return None
        self._add_lap()
        progress.loss_in_epoch = self.workers.total(running.total)
        self._save()
        return Stopped(progress.step, progress.epoch + 1) if action == -STOP else None

    def _requested_action(self) -> int:
        """Return what this worker would do between two steps: 0, SAVE or STOP; rank 0 alone."""
        if self.workers.rank != 0:
            return 0
        if self.session.stop_requested is not None and self.session.stop_requested():
            return STOP
        return SAVE if time.monotonic() - self._saved > self.job.checkpoint_seconds else 0

    def _not_finite(self, which: str, step: int) -> str:
        epoch = self.progress.epoch + (which == "training")
        return (
            f"the {which} loss is not finite at step {step} (epoch {epoch}); "
            "stopped. Begin again with a lower trainer.optimizer.learning_rate or with "
            "trainer.clip_norm; a rerun without would end so again"
        )

    def _validate(self) -> tuple[float, float]:
        """Return the mean validation loss, in nats and bits/dim; note whether it is the best."""
        model = self.learner.evaluated
        model.eval()
        batches = self.valid.sequential(validation.rows_at_once(model.event))
        summed = self.workers.total(validation.summed_loss(model, batches, self.config))
        nats = summed / self.valid.rows
        bits = nats_to_bits_per_dim(nats, self.model.scored_event, size=self.valid.mean_size)
        if self.progress.judge(nats, self.config.patience):
            self.best = checkpoints.weights_of(model)
        return nats, bits

    # -- time, reports and checkpoints

    def _add_lap(self) -> None:
        """Add to the seconds of training what went by since this was last done."""
        now = time.perf_counter()
        self.progress.seconds += now - self._lap_began
        self._lap_began = now

    def _report(self, record: EpochRecord, finished: bool) -> None:
        """Log and report an epoch, with a checkpoint if one is due or asked for."""
        if self.tracked.is_due:
            self.tracked.update(self.progress.curves())
        self.display.epoch(record)
        due = self._asked_at_end or self.progress.epoch % self.config.checkpoint_every == 0
        if finished or due:
            self._save()
        if self.session.report is not None:
            self.store.wait()  # who is told may end the training, and remove its checkpoints
            self.session.report(record, finished)

    def _save(self) -> None:
        self._saved = time.monotonic()
        if self.workers.rank == 0:
            self.store.save(checkpoints.snapshot(self.job, self.progress, self.learner, self.best))
