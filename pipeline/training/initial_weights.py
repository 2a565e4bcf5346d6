"""Weights of another model that a training starts from: `trainer.initial_weights`."""

import hashlib
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError

from arcore import saving
from arcore.model import AutoregressiveModel
from pipeline.artifacts import reader
from pipeline.cluster.shared_storage import shared_storage
from pipeline.core import atomic, paths, storage
from pipeline.core.errors import UserError, require
from pipeline.core.redaction import redacted
from pipeline.experiments.schema import ClusterConfig

NAME = "trainer.initial_weights"


def file_of(given: str | None) -> Path | None:
    """Return the file of the weights: itself, or the folder's; None where none are asked."""
    if not given:
        return None
    path = paths.root() / given
    return path if path.suffix == ".safetensors" else path / saving.WEIGHTS


def sha256_of(given: str | None) -> str | None:
    """Return the hash of the weights; None where none are asked for, or none are there."""
    path = file_of(given)
    return atomic.sha256_of(path) if path is not None and path.is_file() else None


def check(given: str | None, sha256: str | None, model: AutoregressiveModel) -> None:
    """Check that the weights are there, unaltered, and fit a model, maybe without memory."""
    path = file_of(given)
    if path is None:
        return
    require(sha256 is not None, NAME, "a model's folder or a .safetensors file", given)
    reader.check_files(path.parent, "restore the folder, or make it again")
    load(str(path), sha256, model)


def publish(cluster: ClusterConfig, given: str | None, sha256: str | None) -> str | None:
    """Return where every worker reaches the weights: a copy in the shared storage, if any."""
    path, shared = file_of(given), shared_storage(cluster)
    if path is None or shared is None:
        return None if path is None else str(path)
    copy = storage.join(shared, "initial", f"{sha256}.safetensors")
    if not storage.exists(copy):
        storage.write_bytes(copy, path.read_bytes())
    return copy


def load(place: str, sha256: str | None, *models: AutoregressiveModel) -> None:
    """Load weights into models of their architecture."""
    where = redacted(place)
    try:
        content = storage.read_bytes(place)
        found = hashlib.sha256(content).hexdigest()
        expected = f"the weights that this training is of ({str(sha256)[:12]})"
        require(found == sha256, f"{NAME}: {where}", expected, found[:12])
        weights = safetensors.torch.load(content)
        for model in models:
            saving.check_weights(weights, model, where)
            if model.device.type != "meta":
                model.load_state_dict(weights)
    except FileNotFoundError:
        raise UserError(f"{NAME}: {where}: missing") from None
    except (ValueError, SafetensorError) as error:
        raise UserError(f"{NAME}: {error}") from None
