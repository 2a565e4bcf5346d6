"""What a training must keep to go on exactly where it was; no pickle is trusted."""

from __future__ import annotations

import dataclasses
import errno
import io
import json
import pickle
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from arcore import saving
from pipeline.core.errors import UserError
from pipeline.core.records import read_object, value_of
from pipeline.experiments.schema import build
from pipeline.training.records import EpochRecord

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
        epoch: finished epochs.
        step: finished optimiser steps.
        steps_in_epoch: steps of the epoch under way.
        rows_in_epoch: rows of the epoch under way, over all workers.
        loss_in_epoch: summed nats of the epoch under way, over all workers.
        seconds: time spent training, over all restarts.
        best_nats: lowest validation nats so far.
        best_epoch: its epoch (0: none yet).
        validations_since_best: for early stopping.
        stopped: early stopping has ended the training.
        history: one record a finished epoch.
        world: number of workers.
        precision: of the steps; None in checkpoints of before there was such a thing.
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
    history: list[EpochRecord] = dataclasses.field(default_factory=list)
    world: int = 1
    precision: str | None = None

    def begin_epoch_anew(self) -> None:
        """Forget the steps of the epoch under way; weights keep what they learned from them."""
        self.step -= self.steps_in_epoch
        self.steps_in_epoch, self.rows_in_epoch, self.loss_in_epoch = 0, 0, 0.0

    def end_epoch(self) -> None:
        """Count the epoch under way among the finished ones."""
        self.epoch += 1
        self.steps_in_epoch, self.rows_in_epoch, self.loss_in_epoch = 0, 0, 0.0

    def judge(self, nats: float, patience: int | None) -> bool:
        """Take in a validation; return whether it is the best so far.

        Arguments:
            nats: of the validation.
            patience: validations without a new best after which the training has stopped.
        """
        if nats < self.best_nats:
            self.best_nats, self.best_epoch = nats, self.epoch
            self.validations_since_best = 0
            return True
        self.validations_since_best += 1
        self.stopped = patience is not None and self.validations_since_best >= patience
        return False

    def to_dict(self) -> dict[str, object]:
        """Return plain data, with which state.json ends."""
        return dataclasses.asdict(self) | {"history": [row.to_dict() for row in self.history]}

    @classmethod
    def from_dict(cls, plain: Mapping[str, object]) -> Progress:
        """Make what `to_dict` described.

        Raises:
            UserError: for what `to_dict` cannot have written.
        """
        return build(cls, plain, "progress")


class OfOtherCode(UserError):
    """A checkpoint of a training that began with other code."""


def read_progress(folder: Path) -> Progress:
    """Read where the training of a checkpoint stood."""
    return _progress(folder, _read_state(folder)[2])


def _read_state(folder: Path) -> tuple[str, str | None, Mapping[str, object]]:
    """Read the config hash, the code's and the progress of a checkpoint."""
    try:
        state = read_object(folder / "state.json")
        code = state.get("code_sha256")  # older checkpoints have none
        return (
            value_of(state, "config_hash", str, "state.json"),
            None if code is None else str(code),
            value_of(state, "progress", dict, "state.json"),
        )
    except UserError as error:
        raise _damaged(folder, error) from error


def _progress(folder: Path, described: Mapping[str, object]) -> Progress:
    try:
        return Progress.from_dict(described)
    except UserError as error:
        raise _damaged(folder, error) from error


def _damaged(folder: Path, error: Exception) -> UserError:
    return UserError(f"{folder}: damaged checkpoint: {' '.join(str(error).split())}")


def weights_of(module: nn.Module) -> Weights:
    """Return a copy of a module's parameters and persistent buffers, on the CPU."""
    return {name: value.detach().cpu().clone() for name, value in module.state_dict().items()}


def save(
    folder: Path,
    config_hash: str,
    code_sha256: str | None,
    progress: Progress,
    model: nn.Module,
    best: Weights,
    optimizer: torch.optim.Optimizer,
    averaged: nn.Module | None,
) -> None:
    """Write a checkpoint into an existing folder (its move into place is the session's)."""
    _save_weights(weights_of(model), folder / "last.safetensors")
    _save_weights(best, folder / "best.safetensors")
    if averaged is not None:
        _save_weights(weights_of(averaged), folder / "averaged.safetensors")
    content = io.BytesIO()  # torch's own writing would hide that a disk is full
    torch.save(optimizer.state_dict(), content)
    (folder / "optimizer.pt").write_bytes(content.getbuffer())
    state = {
        "config_hash": config_hash,
        "code_sha256": code_sha256,
        "progress": progress.to_dict(),
    }
    (folder / "state.json").write_text(json.dumps(state), encoding="utf-8")


def _save_weights(weights: Weights, path: Path) -> None:
    try:
        save_file(weights, path)
    except SafetensorError as error:  # which hides the number of what the system said
        found = re.search(r"os error (\d+)", str(error))
        raise OSError(int(found[1]) if found else errno.EIO, str(error), str(path)) from None


def load(
    folder: Path,
    config_hash: str,
    code_sha256: str | None,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    averaged: nn.Module | None,
) -> tuple[Progress, Weights]:
    """Restore a training in place; return its progress and best weights.

    Raises:
        UserError: for a checkpoint of another experiment or architecture, or a damaged one.
        OfOtherCode: for one that other code wrote, where both are known.
    """
    found, code, described = _read_state(folder)
    if found != config_hash:
        raise UserError(
            f"{folder}: expected a checkpoint of this experiment ({config_hash[:8]}), got one of "
            f"another ({found[:8]}); move it away, or remove it"
        )
    if None not in (code, code_sha256) and code != code_sha256:
        raise OfOtherCode(
            f"{folder}: expected a checkpoint of this code ({str(code_sha256)[:8]}), got one of "
            f"other code ({str(code)[:8]}); check that out again"
        )
    progress = _progress(folder, described)
    try:
        load_weights(folder / "last.safetensors", model)
        if averaged is not None:
            load_weights(folder / "averaged.safetensors", averaged)
        # copied from the file, which is removed while the training goes on
        kept = load_file(folder / "best.safetensors")
        best = {name: weight.clone() for name, weight in kept.items()}
        saving.check_weights(best, model, str(folder / "best.safetensors"))
        # to the CPU, whatever wrote it: `load_state_dict` moves it to where the parameters are
        moments = torch.load(folder / "optimizer.pt", weights_only=True, map_location="cpu")
        optimizer.load_state_dict(moments)
        return progress, best
    except DAMAGE as error:
        raise _damaged(folder, error) from error


def load_weights(path: Path, module: nn.Module) -> None:
    """Load a safetensors file into a module of the same architecture.

    Raises:
        UserError: naming the file and the first weight that is missing, left over, of another shape
            or dtype, or not finite.
    """
    try:
        saving.load_weights(module, path)
    except ValueError as error:
        raise UserError(str(error)) from None
