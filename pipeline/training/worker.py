"""The training loop that each Ray Train worker runs."""

from __future__ import annotations

import contextlib
import errno
import logging
import math
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any, cast

import ray.util
import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import arcore
from arcore.primitives.row_noise import BatchSlice
from arcore.units import nats_to_bits_per_dim
from pipeline.core import provenance
from pipeline.core.errors import UserError, one_line
from pipeline.data import sound_batches, sound_loading
from pipeline.data.loading import Loader
from pipeline.experiments.schema import TrainerConfig, build
from pipeline.tracking import run_logger
from pipeline.training import checkpoints, optimization
from pipeline.training.sessions import Session, TrainSession

VALID_DIMENSIONS = 1 << 21  # at once in validation, of 500 rows at most: clips are large
CHECK_EVERY = 50  # steps between the exchanges in which workers agree to go on
SAVE, STOP = 1, 2
DTYPES = {"float32": torch.float32, "bfloat16": torch.float32, "float64": torch.float64}


def train_worker(job: dict[str, Any]) -> dict[str, Any]:
    """Train as a worker of Ray Train; return a summary, or {"error" or "stopped": one line}.

    Arguments:
        job: plain data from `pipeline.training.driver.make_job`.
    """
    logging.getLogger().setLevel(logging.WARNING)  # Ray Train names each report in several lines
    session = TrainSession(job["stop_key"])
    try:
        return Worker(job, session).run()
    except UserError as error:
        return {"error": str(error)}
    except OSError as error:
        # Restarts would not help. Workers beside this one wait for it, so there it must raise.
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        if not full or session.world > 1:
            raise
        return {"error": f"cannot write a checkpoint: {one_line(error)}"}


class Worker:
    """One worker's training; every worker takes the same decisions from all-reduced numbers.

    Arguments:
        job: plain data from `pipeline.training.driver.make_job`.
        session: what it runs in.
    """

    def __init__(self, job: dict[str, Any], session: Session) -> None:
        self.session = session
        self.rank, self.world = session.rank, session.world
        self.config = config = build(TrainerConfig, job["trainer"], "trainer")
        self.identity = job["identity"]
        torch.set_num_threads(job["threads"])
        self.device = session.device
        torch.manual_seed(config.seed)
        self.event = arcore.events.from_dict(job["event"])
        hyperparameters = {k: v for k, v in job["model"].items() if k != "name"}
        model = arcore.create_model(job["model"]["name"], self.event, **hyperparameters)
        self.model = model.to(self.device, DTYPES[config.precision])
        self.optimizer = optimization.make_optimizer(self.model.parameters(), config.optimizer)
        self.averaged = None
        if config.ema_decay:
            average = get_ema_multi_avg_fn(config.ema_decay)
            self.averaged = AveragedModel(self.model, multi_avg_fn=average)
        part: dict[str, Any] = {
            "rank": self.rank,
            "world_size": self.world,
            "shuffle_rows": config.shuffle_rows,
        }
        batch: dict[str, Any] = {"seed": config.seed, "batch_size": config.batch_size}
        load: Any = Loader
        if model.event.is_open:
            load = sound_loading.SoundLoader
            part["model"], batch["window"] = model, config.window
            self._print_on_rank_0(f"receptive field: {model.receptive_field:,} samples")
        else:
            part["use_labels"] = model.condition_kind is not None
        self.train: Loader | sound_loading.SoundLoader = load(
            job["shards"], "train", **batch, **part
        )
        self.valid: Loader | sound_loading.SoundLoader = load(job["shards"], "valid", **part)
        self.progress, self.best = checkpoints.Progress(), checkpoints.weights_of(self.model)
        self._restore()
        self.checkpoint_seconds, self.quiet = job["checkpoint_seconds"], job["quiet"]
        self.saved = time.monotonic()
        call: torch.nn.Module = self.model
        if config.compile:
            call = cast(torch.nn.Module, torch.compile(call))
        if self.world > 1:
            ids = [self.device] if self.device.type == "cuda" else None
            with warnings.catch_warnings():  # torch 2.13 renames the option, 2.7 has the old name
                warnings.simplefilter("ignore", FutureWarning)
                call = DistributedDataParallel(call, device_ids=ids, broadcast_buffers=False)
        self.call = call
        self.logger = run_logger.RunLogger(job["run_id"] if self.rank == 0 else None)

    def _restore(self) -> None:
        """Go on from the newest checkpoint that is whole, if there is any."""
        damage: Exception | None = None
        restored = False
        for checkpoint in self.session.checkpoints():
            try:
                with checkpoint.as_directory() as folder:
                    averaged = self.averaged.module if self.averaged else None
                    self.progress, self.best = checkpoints.load(
                        Path(folder), self.identity, self.model, self.optimizer, averaged
                    )
            except (UserError, OSError) as error:
                damage = error
                self._print_on_rank_0(
                    f"warning: {one_line(error)}; trying the checkpoint before it"
                )
                continue
            restored = True
            break
        if not restored and damage is not None:
            raise UserError(f"no checkpoint is whole; the oldest: {one_line(damage)}")
        step = torch.tensor([self.progress.step, -self.progress.step], dtype=torch.float64)
        if self.world > 1:
            self._print_on_rank_0(f"{self.world} workers: {', '.join(self._hosts())}")
            low, high = self._reduce(step.to(self.device), dist.ReduceOp.MIN)
            if low != -high:
                raise RuntimeError("workers see different checkpoints: is the storage shared?")
        progress = self.progress
        if restored:
            midway = f" and {progress.steps_in_epoch} steps" if progress.steps_in_epoch else ""
            self._print_on_rank_0(f"resumes after epoch {progress.epoch}{midway}")
            if midway and progress.world != self.world and self.train.shared_out:
                self._print_on_rank_0(
                    f"warning: {progress.world} workers had shared out its rows; begins the epoch "
                    f"anew with {self.world}"
                )
                progress.begin_epoch_anew()
            if self.averaged is not None:
                self.averaged.n_averaged.fill_(progress.step)
        progress.world = self.world

    def _hosts(self) -> list[str]:
        addresses: list[Any] = [None] * self.world
        dist.all_gather_object(addresses, ray.util.get_node_ip_address())
        return addresses

    def _print_on_rank_0(self, line: str) -> None:
        if self.rank == 0:
            print(line, flush=True)

    # -- the loop

    def run(self) -> dict[str, Any]:
        """Train to the last epoch, an early stop, or a request to leave."""
        with self.logger.system_metrics(), self.logger.flushed():
            while self.progress.epoch < self.config.max_epochs and not self.progress.stopped:
                ended = self._epoch()
                if ended is not None:
                    return ended
        parameters = sum(p.numel() for p in self.model.parameters())
        return {
            "num_parameters": parameters,
            "device": provenance.device_name(self.device),
            "world": self.world,
        }

    def _epoch(self) -> dict[str, Any] | None:
        """Train one epoch, validate, log and checkpoint; return how the training ended, if so."""
        config, progress = self.config, self.progress
        began = time.perf_counter()
        self.model.train()
        loss_sum = torch.zeros((), dtype=torch.float64, device=self.device)
        if self.rank == 0:
            loss_sum += progress.loss_in_epoch
        failed = torch.full((), math.inf, dtype=torch.float64, device=self.device)
        last = self.train.steps_per_epoch
        for x, labels, batch_rows in self.train.epoch(progress.epoch, progress.steps_in_epoch):
            loss = self._step(x, labels, batch_rows, progress.step)
            failed = torch.where(
                torch.isfinite(loss) | torch.isfinite(failed), failed, progress.step
            )
            loss_sum += loss
            progress.step += 1
            progress.steps_in_epoch += 1
            progress.rows_in_epoch += batch_rows
            wish = self._requested_action()
            final = progress.steps_in_epoch == last
            if final or progress.step % CHECK_EVERY == 0 or (wish and self.world == 1):
                wishes = failed.new_tensor(-wish)
                first, action = self._reduce(torch.stack([failed, wishes]), dist.ReduceOp.MIN)
                if math.isfinite(first):
                    return {"error": self._not_finite("training", int(first))}
                if action and not final:
                    progress.seconds += time.perf_counter() - began
                    began = time.perf_counter()
                    (progress.loss_in_epoch,) = self._reduce(loss_sum[None], dist.ReduceOp.SUM)
                    self._save({"epoch": progress.epoch, "best_valid_nats": progress.best_nats})
                    if action == -STOP:
                        return {"stopped": f"step {progress.step} (epoch {progress.epoch + 1})"}
        self._synchronize()
        (nats,) = self._reduce(loss_sum[None], dist.ReduceOp.SUM)
        row: dict[str, float] = {
            "epoch": progress.epoch + 1,
            "step": progress.step,
            "seconds": round(progress.seconds + time.perf_counter() - began, 3),
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "train_nats": nats / progress.rows_in_epoch / self.train.events_per_row,
        }
        progress.seconds += time.perf_counter() - began
        progress.epoch += 1
        progress.steps_in_epoch, progress.rows_in_epoch, progress.loss_in_epoch = 0, 0, 0.0
        final = progress.epoch == config.max_epochs
        if final or progress.epoch % config.validate_every == 0:
            self._validate(row)
            if not math.isfinite(row["valid_nats"]):
                return {"error": self._not_finite("validation", progress.step)}
        progress.history.append(row)
        self._report(row, final or progress.stopped)
        return None

    def _not_finite(self, which: str, step: int) -> str:
        epoch = self.progress.epoch + (which == "training")
        return (
            f"the {which} loss is not finite at step {step} (epoch {epoch}); "
            "stopped, the last good checkpoint is kept. "
            "Lower trainer.optimizer.learning_rate or set trainer.clip_norm, and rerun"
        )

    def _requested_action(self) -> int:
        """Return what this worker would do between two steps: 0, SAVE or STOP; rank 0 alone."""
        if self.rank != 0:
            return 0
        if self.session.stop_requested():
            return STOP
        return SAVE if time.monotonic() - self.saved > self.checkpoint_seconds else 0

    def _step(self, x: Tensor, labels: Tensor | None, batch_rows: int, step: int) -> Tensor:
        """One optimiser step; return the summed nats of this worker's rows."""
        config = self.config
        self.model.set_step(config.seed, step)
        drawn = config.seed * 1_000_003 + step
        self._seed(-1 - drawn)
        self.model.sample_training_noise(BatchSlice(len(x), batch_rows, self.rank, self.world))
        self._seed(drawn * self.world + self.rank)  # for dropout, in which ranks must differ
        x, given = self._move(x), None if labels is None else self._move(labels)
        with torch.autocast(
            self.device.type, torch.bfloat16, enabled=config.precision == "bfloat16"
        ):
            loss = self.call(x, *sound_batches.arguments(self.model, given)).sum()
        self.optimizer.zero_grad(set_to_none=True)
        # DDP averages over workers; scaled so, the average is the mean over the whole batch.
        (loss * (self.world / batch_rows)).backward()
        if config.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.clip_norm)
        total = config.max_epochs * self.train.steps_per_epoch
        factor = optimization.schedule_factor(config.schedule, step, total)
        for group in self.optimizer.param_groups:
            group["lr"] = config.optimizer.learning_rate * factor
        self.optimizer.step()
        if self.averaged is not None:
            self.averaged.update_parameters(self.model)
        return cast(Tensor, loss.detach().double())

    def _seed(self, seed: int) -> None:
        # As torch.manual_seed, which formats the stack for each kind of accelerator not in use.
        torch.default_generator.manual_seed(seed)
        if self.device.type == "cuda":
            torch.cuda.manual_seed_all(seed)

    def _move(self, values: Tensor) -> Tensor:
        if self.device.type == "cuda":
            return values.pin_memory().to(self.device, non_blocking=True)
        return values

    def _scored(self) -> arcore.AutoregressiveModel:
        module = self.averaged.module if self.averaged is not None else self.model
        return cast(arcore.AutoregressiveModel, module)

    @torch.no_grad()
    def _validate(self, row: dict[str, float]) -> None:
        model = self._scored()
        model.eval()
        scorer = model
        members = self.config.validate_members or model.num_members
        exactly = self.config.validate_members is None and model.validation_is_estimate
        if members > 1 or exactly:
            scorer = model.ensemble(members)
        total = torch.zeros(1, dtype=torch.float64, device=self.device)
        size = 500 if self.event.is_open else min(500, max(1, VALID_DIMENSIONS // self.event.size))
        for x, labels in self.valid.sequential(size):
            given = sound_batches.arguments(model, None if labels is None else self._move(labels))
            total += scorer.validation_loss(self._move(x), *given).double().sum()
        (summed,) = self._reduce(total, dist.ReduceOp.SUM)
        nats = summed / self.valid.rows
        row["valid_nats"] = nats
        row["valid_bits_per_dim"] = nats_to_bits_per_dim(
            nats, self.model.scored_event, size=self.valid.mean_size
        )
        progress = self.progress
        if nats < progress.best_nats:
            progress.best_nats, progress.best_epoch = nats, progress.epoch
            progress.validations_since_best = 0
            self.best = checkpoints.weights_of(model)
        else:
            progress.validations_since_best += 1
            patience = self.config.patience
            progress.stopped = patience is not None and progress.validations_since_best >= patience

    def _report(self, row: dict[str, float], final: bool) -> None:
        epoch = int(row["epoch"])
        self.logger.metrics({k: v for k, v in row.items() if k != "epoch"}, step=epoch)
        if not self.quiet:
            valid = f"  valid {row['valid_nats']:.3f}" if "valid_nats" in row else ""
            self._print_on_rank_0(
                f"epoch {epoch}/{self.config.max_epochs}  train {row['train_nats']:.3f}{valid} nats"
                f"  {row['seconds']:.0f} s"
            )
        metrics = row | {"best_valid_nats": self.progress.best_nats, "finished": final}
        if final or self.progress.epoch % self.config.checkpoint_every == 0:
            self._save(metrics)
        else:
            self.session.report(metrics, None)

    def _save(self, metrics: dict[str, Any]) -> None:
        """Report with a checkpoint, which rank 0 writes."""
        self.saved = time.monotonic()
        with contextlib.ExitStack() as stack:
            folder = None
            if self.rank == 0:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
                averaged = self.averaged.module if self.averaged else None
                checkpoints.save(
                    folder, self.identity, self.progress, self.model, self.best,
                    self.optimizer, averaged,
                )  # fmt: skip
            self.session.report(metrics, folder)

    # -- across workers

    def _reduce(self, values: Tensor, operation: Any) -> list[float]:
        if self.world > 1:
            values = values.clone()
            dist.all_reduce(values, operation)
        return cast(list[float], values.tolist())

    def _synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
