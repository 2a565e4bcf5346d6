"""The incremental form of a model, `next()` and `push()` in turn."""

import abc
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor
from torch.distributions import Distribution

from arcore.distributions.drawing import SamplingOptions, draw
from arcore.primitives.checks import require, require_int


class Decoder(abc.ABC):
    """The incremental form of a model: `next()` and `push()` in turn, block by block.

    Attributes:
        blocks: the model's schedule; `next` concerns blocks[0] first.
        batch: number of events side by side.
        precision: makes the context in which steps are computed.
    """

    precision: Callable[[], AbstractContextManager[object]] = nullcontext

    def __init__(self, blocks: tuple[Tensor, ...], batch: int) -> None:
        require_int(batch, "batch", 0)
        self.blocks = blocks
        self.batch = batch
        self.position = 0
        self._computed = -1  # the position whose distribution `next` has computed

    def next(self) -> Distribution:
        """Return the distribution of the next block, batch shape (batch, len(block))."""
        require(self.position < len(self.blocks), "next", "a block left to decode", "the end")
        with torch.no_grad(), self.precision():
            following = self._next(self.blocks[self.position])
        self._computed = self.position
        return following

    def draw(self, generator: torch.Generator | None, temperature: float = 1.0) -> Tensor:
        """Draw the next block, (batch, len(block)), by `drawing.draw` from `next()`."""
        return draw(self.next(), generator, temperature)

    def draw_rest(self, options: SamplingOptions) -> list[Tensor]:
        """Draw and push all blocks that are left."""
        parts = []
        for _ in self.blocks[self.position :]:
            parts.append(self.draw(options.generator, options.temperature))
            self.push(parts[-1])
            options.advance(1)
        return parts

    def push(self, values: Tensor) -> None:
        """Fix the next block's values, (batch, len(block)).

        What `next` computes of a block enters later ones, so that without it it is computed here.
        """
        require(self.position < len(self.blocks), "push", "a block left to decode", "the end")
        block = self.blocks[self.position]
        shape = (self.batch, block.shape[0])
        if not (isinstance(values, Tensor) and values.shape == shape):  # spares a text a step
            expected = f"a tensor of shape {shape}"
            require(False, "values", expected, getattr(values, "shape", values))
        if self._computed != self.position:
            self.next()
        with torch.no_grad(), self.precision():
            self._push(block, values)
        self.position += 1

    @abc.abstractmethod
    def _next(self, block: Tensor) -> Distribution:
        """Return the distribution of the block at `position`; no gradient is recorded."""

    @abc.abstractmethod
    def _push(self, block: Tensor, values: Tensor) -> None:
        """Take in the values of the block at `position`; no gradient is recorded."""
