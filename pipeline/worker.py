"""The training loop that each Ray Train worker runs."""

from __future__ import annotations

import contextlib
import errno
import logging
import math
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import ray.train
import ray.train.torch
import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import arcore
from arcore.events import nats_to_bits_per_dim
from pipeline import checkpoints, optimization, provenance, shards, tracking
from pipeline.config import TrainerConfig, build
from pipeline.errors import UserError

CHECK_EVERY = 50
DTYPES = {"float32": torch.float32, "bfloat16": torch.float32, "float64": torch.float64}


def train_worker(job: dict[str, Any]) -> dict[str, Any]:
    """Train on this worker's share of every batch; return a summary, or {"error": one line}.

    Arguments:
        job: plain data from `pipeline.training`: identity, event, model, trainer, shards, run_id,
            tracking_uri, threads.
    """
    logging.getLogger().setLevel(logging.WARNING)  # Ray Train names each report in several lines
    try:
        return _Worker(job).run()
    except UserError as error:
        return {"error": str(error)}
    except OSError as error:
        # Restarts would not help. Workers beside this one wait for it, so there it must raise.
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        if not full or ray.train.get_context().get_world_size() > 1:
            raise
        return {"error": f"cannot write a checkpoint: {tracking.one_line(error)}"}


class _Split:
    """A split in memory; batches are indexed, binarised where the protocol says so, and moved."""

    def __init__(self, folder: Path, split: str, device: torch.device, use_labels: bool) -> None:
        data = shards.read_split(folder, split)
        self.x = torch.from_numpy(data.x)
        self.binarize = data.binarize is not None
        self.labels = None
        if use_labels and data.labels is not None:
            self.labels = torch.from_numpy(data.labels)
        self.device = device

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, rows: Tensor, seed: int, epoch: int) -> tuple[Tensor, Tensor | None]:
        x = self.x[rows]
        if self.binarize:
            x = torch.from_numpy(shards.dynamic_binarize(x.numpy(), rows.numpy(), epoch, seed))
        return self._move(x), None if self.labels is None else self._move(self.labels[rows])

    def _move(self, values: Tensor) -> Tensor:
        if self.device.type == "cuda":
            return values.pin_memory().to(self.device, non_blocking=True)
        return values


class _Worker:
    """One worker's training; every worker takes the same decisions from all-reduced numbers."""

    def __init__(self, job: dict[str, Any]) -> None:
        context = ray.train.get_context()
        self.rank, self.world = context.get_world_rank(), context.get_world_size()
        self.config = config = build(TrainerConfig, job["trainer"], "trainer")
        self.identity = job["identity"]
        torch.set_num_threads(job["threads"])
        self.device = cast(torch.device, ray.train.torch.get_device())
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
        folder = Path(job["shards"])
        conditional = model.num_classes is not None
        self.train = _Split(folder, "train", self.device, conditional)
        self.valid = _Split(folder, "valid", self.device, conditional)
        self.progress, self.best = checkpoints.Progress(), checkpoints.weights_of(self.model)
        self._restore()
        self.steps_per_epoch = self._count_steps()
        call: torch.nn.Module = self.model
        if config.compile:
            call = cast(torch.nn.Module, torch.compile(call))
        if self.world > 1:
            ids = [self.device] if self.device.type == "cuda" else None
            call = DistributedDataParallel(call, device_ids=ids, broadcast_buffers=False)
        self.call = call
        self.logger = tracking.RunLogger(job["run_id"] if self.rank == 0 else None)

    def _restore(self) -> None:
        checkpoint = ray.train.get_checkpoint()
        if checkpoint is None:
            return
        with checkpoint.as_directory() as folder:
            averaged = self.averaged.module if self.averaged else None
            self.progress, self.best = checkpoints.load(
                Path(folder), self.identity, self.model, self.optimizer, averaged
            )
        if self.averaged is not None:
            self.averaged.n_averaged.fill_(self.progress.step)
        if self.rank == 0:
            print(f"resumes after epoch {self.progress.epoch}", flush=True)

    # -- data order

    def _count_steps(self) -> int:
        """Steps an epoch: the last batch may be short but must leave a row for each worker."""
        full, rest = divmod(len(self.train), self.config.batch_size)
        steps = full + (rest >= self.world)
        if steps == 0 or self.config.batch_size < self.world:
            raise UserError(
                f"trainer.batch_size: expected >= {self.world} (workers) and rows for a batch, "
                f"got {self.config.batch_size} with {len(self.train)} rows"
            )
        return int(steps)

    def _batches(self, epoch: int) -> Iterator[tuple[Tensor, int]]:
        """This worker's rows of each batch of an epoch, and the batch's rows over all workers.

        The shuffle is a function of (seed, epoch); workers take interleaved rows.
        """
        seed = np.random.SeedSequence((self.config.seed, epoch))
        order = torch.from_numpy(
            np.random.Generator(np.random.PCG64(seed)).permutation(len(self.train))
        )
        for step in range(self.steps_per_epoch):
            batch = order[step * self.config.batch_size : (step + 1) * self.config.batch_size]
            yield batch[self.rank :: self.world], len(batch)

    # -- the loop

    def run(self) -> dict[str, Any]:
        """Train to the last epoch or to an early stop."""
        with self.logger.system_metrics():
            while self.progress.epoch < self.config.max_epochs and not self.progress.stopped:
                failed_step = self._epoch()
                if failed_step is not None:
                    return {
                        "error": f"the training loss is not finite at step {failed_step} (epoch "
                        f"{self.progress.epoch + 1}); stopped, the last good checkpoint is kept. "
                        "Lower trainer.optimizer.learning_rate or set trainer.clip_norm, and rerun"
                    }
        parameters = sum(p.numel() for p in self.model.parameters())
        return {
            "num_parameters": parameters,
            "device": provenance.device_name(self.device),
            "world": self.world,
        }

    def _epoch(self) -> int | None:
        """Train one epoch, validate, log and checkpoint; return the step of a non-finite loss."""
        config, progress = self.config, self.progress
        began = time.perf_counter()
        self.model.train()
        loss_sum = torch.zeros((), dtype=torch.float64, device=self.device)
        failed = torch.full((), math.inf, dtype=torch.float64, device=self.device)
        rows = 0
        last = progress.step + self.steps_per_epoch
        for indices, batch_rows in self._batches(progress.epoch):
            loss = self._step(indices, batch_rows, progress.step)
            failed = torch.where(
                torch.isfinite(loss) | torch.isfinite(failed), failed, progress.step
            )
            loss_sum += loss
            rows += batch_rows
            progress.step += 1
            if progress.step % CHECK_EVERY == 0 or progress.step == last:
                first = self._reduce(failed, dist.ReduceOp.MIN)
                if math.isfinite(first):
                    return int(first)
        self._synchronize()
        progress.epoch += 1
        learning_rate = self.optimizer.param_groups[0]["lr"]
        progress.seconds += time.perf_counter() - began
        row = {
            "epoch": progress.epoch,
            "step": progress.step,
            "seconds": round(progress.seconds, 3),
            "learning_rate": learning_rate,
            "train_nats": self._reduce(loss_sum, dist.ReduceOp.SUM) / rows,
        }
        final = progress.epoch == config.max_epochs
        if final or progress.epoch % config.validate_every == 0:
            self._validate(row)
        progress.history.append(row)
        self._report(row, final or progress.stopped)
        return None

    def _step(self, indices: Tensor, batch_rows: int, step: int) -> Tensor:
        """One optimiser step; return the summed nats of this worker's rows."""
        config = self.config
        torch.manual_seed((config.seed * 1_000_003 + step) * self.world + self.rank)
        self.model.set_step(config.seed, step)
        x, condition = self.train.batch(indices, config.seed, self.progress.epoch)
        with torch.autocast(
            self.device.type, torch.bfloat16, enabled=config.precision == "bfloat16"
        ):
            loss = self.call(x, condition).sum()
        self.optimizer.zero_grad(set_to_none=True)
        # DDP averages over workers; scaled so, the average is the mean over the whole batch.
        (loss * (self.world / batch_rows)).backward()
        if config.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.clip_norm)
        total = config.max_epochs * self.steps_per_epoch
        factor = optimization.schedule_factor(config.schedule, step, total)
        for group in self.optimizer.param_groups:
            group["lr"] = config.optimizer.learning_rate * factor
        self.optimizer.step()
        if self.averaged is not None:
            self.averaged.update_parameters(self.model)
        return cast(Tensor, loss.detach().double())

    def _scored(self) -> arcore.AutoregressiveModel:
        module = self.averaged.module if self.averaged is not None else self.model
        return cast(arcore.AutoregressiveModel, module)

    @torch.no_grad()
    def _validate(self, row: dict[str, float]) -> None:
        model = self._scored()
        model.eval()
        scorer = model
        if self.config.validate_members > 1:
            scorer = cast(Any, model).ensemble(self.config.validate_members)
        rows = torch.arange(self.rank, len(self.valid), self.world)
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        for part in rows.split(500):
            total -= scorer.log_prob(*self.valid.batch(part, 0, 0)).double().sum()
        nats = self._reduce(total, dist.ReduceOp.SUM) / len(self.valid)
        row["valid_nats"] = nats
        row["valid_bits_per_dim"] = nats_to_bits_per_dim(nats, self.event)
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
        if self.rank == 0:
            epoch = int(row["epoch"])
            self.logger.metrics({k: v for k, v in row.items() if k != "epoch"}, step=epoch)
            valid = f"  valid {row['valid_nats']:.3f}" if "valid_nats" in row else ""
            print(
                f"epoch {epoch}/{self.config.max_epochs}  train {row['train_nats']:.3f}{valid} nats"
                f"  {row['seconds']:.0f} s",
                flush=True,
            )
        due = final or self.progress.epoch % self.config.checkpoint_every == 0
        metrics = {"epoch": row["epoch"], "valid_nats": row.get("valid_nats", math.nan)}
        with contextlib.ExitStack() as stack:
            checkpoint = None
            if due and self.rank == 0:
                folder = stack.enter_context(tempfile.TemporaryDirectory())
                averaged = self.averaged.module if self.averaged else None
                checkpoints.save(
                    Path(folder), self.identity, self.progress, self.model, self.best,
                    self.optimizer, averaged,
                )  # fmt: skip
                checkpoint = ray.train.Checkpoint.from_directory(folder)
            ray.train.report(metrics, checkpoint=checkpoint)

    # -- across workers

    def _reduce(self, value: Tensor, operation: Any) -> float:
        if self.world > 1:
            value = value.clone()
            dist.all_reduce(value, operation)
        return float(value)

    def _synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
