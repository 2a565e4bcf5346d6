"""A model as it learns: with its optimiser, its averaged weights and its training call."""

import contextlib
import copy
import dataclasses
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import bf16_compress_hook
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import get_ema_multi_avg_fn

from arcore.model import AutoregressiveModel
from arcore.primitives.activation_checkpointing import checkpointed_blocks
from arcore.primitives.products import has_fast_bfloat16
from arcore.primitives.row_noise import BatchSlice
from pipeline.data.batches import Batch
from pipeline.training import optimization
from pipeline.training.collectives import Workers
from pipeline.training.resolved import DTYPES, create_model
from pipeline.training.training_records import TrainingJob


class AveragedModel:
    """A copy of a model whose weights are exponential moving averages, from the first step's on.

    As torch's `AveragedModel`, which counts its steps in a tensor of the host and copies that to
    the device in each of them, for which the host would wait.

    Attributes:
        module: the copy.
        begun: whether it has averages, to which `update` adds; without, `update` copies.
    """

    def __init__(self, model: AutoregressiveModel, decay: float) -> None:
        self.module = copy.deepcopy(model)
        self.begun = False
        persistent = set(model.state_dict())
        self._buffers = [name for name, _ in model.named_buffers() if name in persistent]
        self._add = get_ema_multi_avg_fn(decay)

    @torch.no_grad()
    def update(self, model: AutoregressiveModel) -> None:
        """Add a step's weights to the averages, and copy buffers that belong to the model's state.

        Others (masks of a step) follow from `eval()`.
        """
        averages, weights = list(self.module.parameters()), list(model.parameters())
        if self.begun:
            self._add(averages, weights, 1)  # which ignores the count
        else:
            for average, weight in zip(averages, weights, strict=True):
                average.copy_(weight)
        for name in self._buffers:
            self.module.get_buffer(name).copy_(model.get_buffer(name))
        self.begun = True


def has_bfloat16(device: torch.device) -> bool:
    """Tell whether a device multiplies bfloat16 in hardware, and faster than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and has_fast_bfloat16()


def precision_of_steps(asked: str, workers: Workers) -> str:
    """Return what `trainer.precision` is on these workers, which train one model alike."""
    if asked != "auto":
        return asked
    has = torch.tensor([float(has_bfloat16(workers.device))], device=workers.device)
    return "bfloat16" if workers.minimum(has) == [1.0] else "float32"


class Learner:
    """A model and what a training step changes of it.

    The weights are what `trainer.seed` gives. What a step draws is a function of (seed, step)
    for all rows of the batch, whatever the workers; dropout differs by rank.

    Attributes:
        evaluated: that is validated and kept: with averaged weights, if there are any.
        precision: of the steps: `trainer.precision`, or what auto is on these workers.
    """

    def __init__(self, job: TrainingJob, workers: Workers) -> None:
        self.workers, self.trainer = workers, job.trainer
        self.precision = precision_of_steps(job.trainer.precision, workers)
        torch.manual_seed(job.trainer.seed)
        model = workers.run_on_all_ranks(lambda: create_model(job.model, job.event))
        self.model = model.to(workers.device, DTYPES[job.trainer.precision])
        self.optimizer = optimization.make_optimizer(self.model.parameters(), job.trainer.optimizer)
        self.evaluated: AutoregressiveModel = self.model
        self._average: AveragedModel | None = None
        if job.trainer.ema_decay:
            self._average = AveragedModel(self.model, job.trainer.ema_decay)
            self.evaluated = self._average.module
        self._call: nn.Module = self.model
        self._unsynchronized: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext

    @property
    def averaged(self) -> AutoregressiveModel | None:
        """The model with averaged weights; None without `trainer.ema_decay`."""
        return None if self._average is None else self.evaluated

    def wrap(self, restored_step: int) -> None:
        """Make the training call of weights with so many steps: compiled, shared among workers."""
        if self._average is not None:
            self._average.begun = restored_step > 0
        call: nn.Module = self.model
        if self.trainer.compile:
            call = torch.compile(call)  # type: ignore[assignment]
        if self.workers.world > 1:
            with warnings.catch_warnings():  # torch 2.13 renames the option, 2.7 has the old name
                warnings.simplefilter("ignore", FutureWarning)
                # without device_ids, which would send spans from the host, that reads them, away
                call = shared = DistributedDataParallel(
                    call, broadcast_buffers=False, gradient_as_bucket_view=True
                )
            if self.trainer.compress_gradients:
                # not by its name, by which torch refuses it without NCCL, though gloo serves it
                shared.register_comm_hook(
                    None, lambda group, bucket: bf16_compress_hook(group, bucket)
                )
            self._unsynchronized = shared.no_sync
        self._call = call

    def step(self, batch: Batch, step: int, total_steps: int) -> Tensor:
        """Take a step; return the summed nats of a batch, this worker's rows of it, float64."""
        trainer = self.trainer
        self.model.set_step(trainer.seed, step)
        self.optimizer.zero_grad(set_to_none=True)
        with checkpointed_blocks(trainer.checkpoint_activations):
            loss = self._add_gradients(batch, trainer.seed * 1_000_003 + step)
        if trainer.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), trainer.clip_norm)
        factor = optimization.schedule_factor(trainer.schedule, step, total_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = trainer.optimizer.learning_rate * factor
        self.optimizer.step()
        if self._average is not None:
            self._average.update(self.model)
        return loss

    def _add_gradients(self, batch: Batch, drawn: int) -> Tensor:
        """Add up the gradients of `trainer.accumulate` parts; return their summed nats, float64."""
        workers, summed = self.workers, []
        noise = BatchSlice(len(batch), batch.rows, workers.rank, workers.world)
        parts = list(batch.parts(self.trainer.accumulate))
        for number, (rows, part) in enumerate(parts):
            self._seed(-1 - drawn)
            self.model.sample_training_noise(dataclasses.replace(noise, part=rows))
            # for dropout, in which ranks and parts must differ
            self._seed((drawn * workers.world + workers.rank) * self.trainer.accumulate + number)
            part = part.to(workers.device)
            mixed = self.precision == "bfloat16"
            is_last = number == len(parts) - 1
            with contextlib.nullcontext() if is_last else self._unsynchronized():
                with torch.autocast(workers.device.type, torch.bfloat16, enabled=mixed):
                    losses: Tensor = self._call(part.x, part.condition, part.scored)
                    loss = losses.sum()
                # DDP averages over workers; scaled so, the average is the batch's mean.
                (loss * (workers.world / batch.rows)).backward()
            summed.append(loss.detach().double())
        return torch.stack(summed).sum()

    @property
    def learning_rate(self) -> float:
        """The learning rate of the last step."""
        return float(self.optimizer.param_groups[0]["lr"])

    def _seed(self, seed: int) -> None:
        # As torch.manual_seed, which formats the stack for each kind of accelerator not in use.
        torch.default_generator.manual_seed(seed)
        if self.workers.device.type == "cuda":
            torch.cuda.manual_seed_all(seed)
