"""The training call under torch.compile."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.testing import assert_close

from arcore.model import AutoregressiveModel
from tests.support.cases import loss_of, randomize


def compiles_to_the_same(model: AutoregressiveModel, *given: Tensor | None) -> None:
    """Check loss and gradients of four rows, traced and differentiated by the compiler.

    Its code generation is not ours to test.
    """
    model = randomize(model.double())
    shape = model.event.shape
    x = torch.zeros(4, *shape) + torch.arange(4).view(-1, *[1] * len(shape)) % 3
    compiled = torch.compile(model, backend="aot_eager")
    results = []
    for call in (model, compiled):
        loss = loss_of(call, x, *given)
        loss.mean().backward()
        results.append((loss.detach(), [p.grad for p in model.parameters()]))
        model.zero_grad(set_to_none=True)
    assert_close(results[1], results[0], rtol=1e-9, atol=1e-9)
    torch._dynamo.reset()
