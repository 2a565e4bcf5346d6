"""Entropy coding by constriction, and probabilities and digests as both sides must have them.

NumPy and constriction (`pip install 'arcore[coding]'`) are imported here, when they are needed.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Distribution

from arcore.bitstream import DIGEST
from arcore.events import Levels
from arcore.model import AutoregressiveModel
from arcore.primitives.checks import require
from arcore.primitives.dropout import without_dropout
from arcore.primitives.precision import whole_float32
from arcore.process_tuning import one_thread


def coder(code: bytes | None) -> tuple[Any, Any]:
    """Return a coder, of coded words if there are any (None if they are none), and its family."""
    np, stream = libraries()
    family = stream.model.Categorical(perfect=False)  # the default is slow, and may not end
    if not code:
        return stream.stack.AnsCoder(), family
    if len(code) % 4:
        return None, family
    try:
        return stream.stack.AnsCoder(np.frombuffer(code, "<u4").astype(np.uint32)), family
    except ValueError:  # a last word of zero
        return None, family


def libraries() -> tuple[Any, Any]:
    """Return numpy and constriction.stream."""
    try:
        import numpy
        from constriction import stream
    except ImportError as error:
        raise ValueError(
            f"coding: expected numpy and constriction (pip install 'arcore[coding]'), got {error}"
        ) from None
    return numpy, stream


def table_of(conditionals: Distribution, like: Tensor) -> Tensor:
    """Return the probabilities of all levels, (rows * block, levels) in float64."""
    logits: Tensor = conditionals.logits.to("cpu").double()  # type: ignore[attr-defined]
    if isinstance(conditionals, Bernoulli):
        table = torch.stack([torch.sigmoid(-logits), torch.sigmoid(logits)], -1)
    else:
        table = torch.softmax(logits, -1)
    finite = bool(table.isfinite().all())
    require(finite, "model", "finite probabilities", "NaN")
    return table.reshape(like.numel(), -1)


def fingerprint(model: AutoregressiveModel) -> bytes:
    """Return the SHA-256 of a model: its kind, hyperparameters, weights and masks, 32 bytes.

    It is the same on every device, and for every length of an event.
    """
    require(isinstance(model.event, Levels), "model", "an event of levels", model.event)
    assert isinstance(model.event, Levels)
    kinds = type(model).__name__, type(event := model.event).__name__
    described = [[*kinds, event.uneven or event.num_levels], model.hyperparameters.to_dict()]
    digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode())
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        digest.update(bytes_of(tensor))
    return digest.digest()


def digest_of(tensor: Tensor | None) -> bytes:
    """Return the beginning of a SHA-256 of dtype, shape and values; zeros of None."""
    if tensor is None:
        return bytes(DIGEST)
    described = f"{tensor.dtype} {tuple(tensor.shape)};".encode()
    return hashlib.sha256(described + bytes_of(tensor)).digest()[:DIGEST]


def bytes_of(tensor: Tensor) -> bytes:
    """Return a tensor's bytes in row-major order, little-endian."""
    plain = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return bytes(plain.numpy().data)


@contextmanager
def same_numbers(model: AutoregressiveModel) -> Iterator[None]:
    """Evaluate so that both sides get the same, whatever the process has switched on.

    Nothing is dropped, no product is in less than float32, and one thread adds up.
    """
    models = [one for one in model.modules() if isinstance(one, AutoregressiveModel)]
    steps = [(one, one._kept_step()) for one in models if one.training]
    whole = torch.autocast(model.device.type, enabled=False)
    with torch.no_grad(), without_dropout(model), whole, whole_float32(), one_thread():
        if steps:
            model.eval()  # forgets a step's masks
        try:
            yield
        finally:
            for one, kept in steps:
                one._take_up_step(kept)
