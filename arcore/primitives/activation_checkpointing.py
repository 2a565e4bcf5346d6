"""Activation checkpointing: a network's repeated blocks keep their inputs alone.

A network calls each of its repeated blocks by `run_block`. Within `checkpointed_blocks` the
backward pass computes a block again instead of keeping what is inside, so that memory holds the
activations of one block. Gradients are the same, random draws included.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar, cast

import torch
from torch.utils.checkpoint import checkpoint

T = TypeVar("T")
_checkpoints = False


@contextmanager
def checkpointed_blocks(enabled: bool = True) -> Iterator[None]:
    """Checkpoint repeated blocks within; the backward pass belongs inside too."""
    global _checkpoints
    before, _checkpoints = _checkpoints, enabled
    try:
        yield
    finally:
        _checkpoints = before


def checkpoints_blocks() -> bool:
    """Tell whether `run_block` checkpoints here."""
    return _checkpoints


def run_block(block: Callable[..., T], *inputs: object) -> T:
    """Return what a block makes of its inputs."""
    if not (_checkpoints and torch.is_grad_enabled()):
        return block(*inputs)
    return cast(T, checkpoint(block, *inputs, use_reentrant=False))
