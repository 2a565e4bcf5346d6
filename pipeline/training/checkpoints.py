"""What a training must keep to go on exactly where it was; nothing is pickled."""

from __future__ import annotations

import dataclasses
import json
import pickle
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pipeline.core.errors import UserError

Weights = dict[str, Tensor]
# What torch.load and the others raise for damaged files, the last two for empty and garbled ones.
DAMAGE = (
    OSError, LookupError, TypeError, ValueError, RuntimeError, SafetensorError, EOFError,
    pickle.UnpicklingError,
)  # fmt: skip


@dataclasses.dataclass
class Progress:
    """Where a training stands. Randomness is a function of (seed, step), so this is all of it.

    Attributes:
        epoch, step: finished epochs, finished optimiser steps.
        steps_in_epoch, rows_in_epoch, loss_in_epoch: steps, rows and summed nats of the epoch under
            way, over all workers.
        seconds: time spent training, over all restarts.
        best_nats, best_epoch: lowest validation nats so far and its epoch (0: none yet).
        validations_since_best: for early stopping.
        stopped: early stopping has ended the training.
        history: one row a finished epoch.
        world: number of workers.
    """

    epoch: int = 0
    step: int = 0
    steps_in_epoch: int = 0
    rows_in_epoch: int = 0
    loss_in_epoch: float = 0.0
    seconds: float = 0.0
    best_nats: float = float("inf")
    best_epoch: int = 0
    validations_since_best: int = 0
    stopped: bool = False
    history: list[dict[str, float]] = dataclasses.field(default_factory=list)
    world: int = 1

    def begin_epoch_anew(self) -> None:
        """Forget the steps of the epoch under way; weights keep what they learned from them."""
        self.step -= self.steps_in_epoch
        self.steps_in_epoch, self.rows_in_epoch, self.loss_in_epoch = 0, 0, 0.0


def weights_of(module: nn.Module) -> Weights:
    """Return a copy of a module's parameters and persistent buffers, on the CPU."""
    return {name: value.detach().cpu().clone() for name, value in module.state_dict().items()}


def save(
    folder: Path,
    identity: str,
    progress: Progress,
    model: nn.Module,
    best: Weights,
    optimizer: torch.optim.Optimizer,
    averaged: nn.Module | None,
) -> None:
    """Write a checkpoint into an existing folder (its move into place is Ray's)."""
    save_file(weights_of(model), folder / "last.safetensors")
    save_file(best, folder / "best.safetensors")
    if averaged is not None:
        save_file(weights_of(averaged), folder / "averaged.safetensors")
    torch.save(optimizer.state_dict(), folder / "optimizer.pt")
    state = {"identity": identity, "progress": dataclasses.asdict(progress)}
    (folder / "state.json").write_text(json.dumps(state))


def load(
    folder: Path,
    identity: str,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    averaged: nn.Module | None,
) -> tuple[Progress, Weights]:
    """Restore a training in place; return its progress and best weights.

    Raises:
        UserError: for a checkpoint of another experiment or architecture, or a damaged one.
    """
    try:
        state: dict[str, Any] = json.loads((folder / "state.json").read_text())
        if state["identity"] != identity:
            raise UserError(
                f"{folder}: expected a checkpoint of this experiment ({identity[:8]}), got one of "
                f"another ({state['identity'][:8]}); move it away or use --fresh"
            )
        load_weights(folder / "last.safetensors", model)
        if averaged is not None:
            load_weights(folder / "averaged.safetensors", averaged)
        best = load_file(folder / "best.safetensors")
        optimizer.load_state_dict(_load_optimizer(folder / "optimizer.pt"))
        return Progress(**state["progress"]), best
    except DAMAGE as error:
        raise UserError(f"{folder}: damaged checkpoint: {' '.join(str(error).split())}") from error


def _load_optimizer(path: Path) -> dict[str, Any]:
    # to the CPU, whatever wrote it: `load_state_dict` moves it to where the parameters are
    return cast(dict[str, Any], torch.load(path, weights_only=True, map_location="cpu"))


def load_weights(path: Path, module: nn.Module) -> None:
    """Load a safetensors file into a module of the same architecture.

    Raises:
        UserError: naming the file and the first weight that is missing, left over or misshapen.
    """
    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: not a readable safetensors file: {error}") from None
    wanted = module.state_dict()
    for name in sorted(wanted.keys() | weights.keys()):
        if name not in weights or name not in wanted:
            where = "the file" if name not in weights else "the model"
            raise UserError(f"{path}: weights of another architecture: {name} is not in {where}")
        if wanted[name].shape != weights[name].shape:
            raise UserError(
                f"{path}: weights of another architecture: {name} expected shape "
                f"{tuple(wanted[name].shape)}, got {tuple(weights[name].shape)}"
            )
    module.load_state_dict(weights)
