"""A model whose likelihood is only bounded, made exact by fixing its latents."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Distribution

from arcore.decoding import Decoder
from arcore.families.latent import LatentVariableModel
from arcore.model import AutoregressiveModel


class GivenLatents(AutoregressiveModel):
    """p(x | z) of a latent-variable model at one z, the same for all events: an exact model."""

    def __init__(self, model: LatentVariableModel) -> None:
        self.supports = model.supports
        super().__init__(model.event, model.hyperparameters)
        self.model = model
        generator = torch.Generator().manual_seed(0)
        self.latents = tuple(
            (torch.randn(1, *shape, generator=generator) * 64).round() / 64
            for shape in model.latent_shapes
        )

    def _given(self, batch: int) -> tuple[Tensor, ...]:
        return tuple(z.to(self.dtype).expand(batch, *z.shape[1:]) for z in self.latents)

    @property
    def schedule(self) -> tuple[Tensor, ...]:
        return self.model.schedule

    def _conditionals(self, x: Tensor, condition: Tensor | None) -> Distribution:
        return self.model.conditionals_given(x, self._given(len(x)), condition)

    def _decoder(self, batch: int, condition: Tensor | None) -> Decoder:
        return self.model.decoder(batch, condition, self._given(batch))


def exact_part(model: AutoregressiveModel) -> AutoregressiveModel:
    """The model, or p(x | z) at some z of one whose likelihood is only bounded."""
    return GivenLatents(model) if isinstance(model, LatentVariableModel) else model
