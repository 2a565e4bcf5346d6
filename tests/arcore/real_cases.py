"""The case table of models over real events; see `cases` for that over discrete ones."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

from arcore.events import Real
from arcore.model import AutoregressiveModel
from arcore.primitives.orderings import ORDERINGS
from tests.arcore.cases import Case


@dataclass(frozen=True)
class RealCase(Case):
    """A model configuration over a tiny real event."""

    event: Real = field(kw_only=False)

    def __str__(self) -> str:
        shape = "x".join(map(str, self.event.shape))
        chosen = ",".join(f"{key}={value}" for key, value in self.hyperparameters.items())
        return f"{self.model}-{shape}-{chosen or 'defaults'}"

    @torch.no_grad()
    def build(self, seed: int = 0) -> AutoregressiveModel:
        """As for discrete events, with a quarter of the weights: scales are exponentials of them,
        and samples that feed on each other would overflow."""
        model = super().build(seed)
        for parameter in model.parameters():
            parameter.mul_(0.25)
        return model

    def levels(self, batch: int, seed: int = 0) -> Tensor:
        """Multiples of 1/16 within [-2, 2], whose products with weights are exact in float64."""
        generator = torch.Generator().manual_seed(seed)
        return torch.randint(-32, 33, (batch, *self.event.shape), generator=generator).double() / 16


NINE = Real((1, 3, 3))
SMALL: dict[str, Any] = {"hidden": 6, "components": 3}
REAL_CASES = [
    *(RealCase("rnade", NINE, {**SMALL, "ordering": name}) for name in ORDERINGS),
    RealCase("rnade", Real((1,))),
    RealCase("rnade", Real((2,)), {"hidden": 4, "components": 1, "min_log_scale": -1.0}),
    RealCase("rnade", Real((2,)), {**SMALL, "component": "laplace", "num_classes": 3}),
    RealCase("rnade", Real((12,)), {**SMALL, "block": 5}),
    RealCase("rnade", Real((7,)), {**SMALL, "block": 1, "component": "laplace"}),
    RealCase("rnade", NINE, {**SMALL, "num_classes": 2, "block": 4, "ordering_seed": 7}),
    RealCase("rnade", NINE, {**SMALL, "sigma_preconditioner": True, "block": 4}),
    RealCase("rnade", Real((2, 2), bin_width=0.25), {"hidden": 8, "mean_range": (-1.0, 2.0)}),
]

every_real_case = pytest.mark.parametrize("case", REAL_CASES, ids=str)
