"""The content of a checkpoint: weights and moments as safetensors, the rest as JSON; no pickle.

A checkpoint is a flat folder. `state.json` is written last; it has the training's identity and
progress, and the SHA-256 of each other file. `checkpoint_store` keeps such folders.
"""

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from arcore import saving
from pipeline.core.atomic import sha256_of
from pipeline.core.errors import UserError, explained
from pipeline.core.records import read_object, value_of
from pipeline.experiments.schema import build
from pipeline.training.learner import Learner
from pipeline.training.training_records import Progress, TrainingJob

Weights = dict[str, Tensor]
STATE = "state.json"
DAMAGE = (OSError, LookupError, TypeError, ValueError, RuntimeError, SafetensorError)


class OfOtherCode(UserError):
    """A checkpoint of a training that began with other code."""


def weights_of(module: nn.Module) -> Weights:
    """Return a copy of a module's parameters and persistent buffers, on the CPU."""
    return {name: value.detach().cpu().clone() for name, value in module.state_dict().items()}


def snapshot(
    job: TrainingJob, progress: Progress, learner: Learner, best: Weights
) -> Callable[[Path], None]:
    """Copy a training into memory, with the weights of the best validation.

    Returns what writes the copy into an empty folder, as a checkpoint.
    """
    parts = {
        "last": weights_of(learner.model),
        "best": best,
        "optimizer": _moments_of(learner.optimizer),
    }
    if learner.averaged is not None:
        parts["averaged"] = weights_of(learner.averaged)
    state = {
        "config_hash": job.config_hash,
        "code_sha256": job.code_sha256,
        "progress": progress.to_dict(),
    }
    return partial(_write, parts, state)


def _write(parts: Mapping[str, Weights], state: Mapping[str, object], folder: Path) -> None:
    for name, tensors in parts.items():  # not by `save_file`, which hides what the system says
        content = save({key: value.contiguous() for key, value in tensors.items()})
        (folder / f"{name}.safetensors").write_bytes(content)
    files = {path.name: sha256_of(path) for path in sorted(folder.iterdir())}
    (folder / STATE).write_text(json.dumps({**state, "files": files}), encoding="utf-8")


def load(folder: Path, job: TrainingJob, learner: Learner) -> tuple[Progress, Weights]:
    """Restore a training in place; return its progress and best weights.

    Raises:
        OfOtherCode: for one that other code wrote, where both are known.
    """
    damaged = f"{folder}: damaged checkpoint:"
    with explained(damaged, UserError):
        state = read_object(folder / STATE)
    _require_same_training(folder, state, job)
    with explained(damaged, UserError):
        progress = build(Progress, value_of(state, "progress", dict, STATE), "progress")
    with explained(damaged, *DAMAGE):
        _require_whole(folder, state)
        load_weights(folder / "last.safetensors", learner.model)
        if learner.averaged is not None:
            load_weights(folder / "averaged.safetensors", learner.averaged)
        # copied from the file, which is removed while the training goes on
        kept = load_file(folder / "best.safetensors")
        best = {name: weight.clone() for name, weight in kept.items()}
        saving.check_weights(best, learner.model, str(folder / "best.safetensors"))
        _restore_moments(learner.optimizer, load_file(folder / "optimizer.safetensors"))
    return progress, best


def load_weights(path: Path, module: nn.Module) -> None:
    """Load a safetensors file into a module of the same architecture."""
    try:
        saving.load_weights(module, path)
    except ValueError as error:
        raise UserError(str(error)) from None


def _require_same_training(folder: Path, state: Mapping[str, object], job: TrainingJob) -> None:
    found, code = str(state.get("config_hash")), state.get("code_sha256")
    if found != job.config_hash:
        raise UserError(
            f"{folder}: expected a checkpoint of this experiment ({job.config_hash[:8]}), got one "
            f"of another ({found[:8]}); move it away, or remove it"
        )
    if None not in (code, job.code_sha256) and code != job.code_sha256:
        raise OfOtherCode(
            f"{folder}: expected a checkpoint of this code ({str(job.code_sha256)[:8]}), got one "
            f"of other code ({str(code)[:8]}); check that out again"
        )


def _require_whole(folder: Path, state: Mapping[str, object]) -> None:
    files: Mapping[str, object] = value_of(state, "files", dict, STATE)
    for name, expected in files.items():
        if sha256_of(folder / Path(name).name) != expected:
            raise ValueError(f"{name}: content differs from what was written")


def _moments_of(optimizer: torch.optim.Optimizer) -> Weights:
    """Return an optimiser's tensors as `<index of the parameter>.<name>`, on the CPU."""
    state = optimizer.state_dict()["state"]
    return {
        f"{index}.{name}": value.detach().cpu().clone()
        for index, of_parameter in state.items()
        for name, value in of_parameter.items()
        if isinstance(value, Tensor)
    }


def _restore_moments(optimizer: torch.optim.Optimizer, moments: Mapping[str, Tensor]) -> None:
    """Load what `_moments_of` returned; options stay as configured."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in moments.items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
