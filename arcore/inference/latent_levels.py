"""What latents tell of events: the cost of each level, the units in use, walks between events."""

from collections.abc import Sequence
from itertools import zip_longest

import torch
from torch import Tensor

from arcore import generation
from arcore.families.latent import LatentVariableModel
from arcore.inference.interpolation import between, decode_with
from arcore.model import AutoregressiveModel
from arcore.primitives.checks import require, require_int


@torch.no_grad()
def bound_terms(model: AutoregressiveModel, x: Tensor, condition: Tensor | None = None) -> Tensor:
    """Return the nats of each of `model.latent_levels`, (batch, levels): KLs, then pixels.

    Their sum is minus `log_prob`, the bound. A model without latents raises a ValueError, here and
    in the functions below.

    Example:
        >>> import arcore
        >>> model = arcore.create_model("pixelvae", arcore.events.Binary((1, 4, 4)), num_levels=2)
        >>> model.latent_levels, bound_terms(model, torch.zeros(3, 1, 4, 4)).shape
        (('top', 'latent', 'pixels'), torch.Size([3, 3]))
    """
    return _with_latents(model).bound_terms(x, condition)


@torch.no_grad()
def active_units(
    model: AutoregressiveModel,
    x: Tensor,
    condition: Tensor | None = None,
    threshold: float = 0.01,
    batch_size: int = 256,
) -> tuple[tuple[int, int], ...]:
    """Return for each level of latents how many units are in use, and how many there are.

    A unit is in use if the posterior's mean differs between events: Var_x(E_q(z|x)[z]) > threshold.
    x has two events or more; the encoder sees `batch_size` at once.

    Reference:
        Burda, Grosse and Salakhutdinov, "Importance Weighted Autoencoders", ICLR 2016.
    """
    latent = _with_latents(model)
    require(len(x) > 1, "x", "two events or more, for a variance", len(x))
    require_int(batch_size, "batch_size", 1)
    latent._check(x, condition)
    given = [None] if condition is None else condition.split(batch_size)
    parts = zip_longest(x.split(batch_size), given)
    return units_in_use([posterior_means(latent, *part) for part in parts], threshold)


@torch.no_grad()
def posterior_means(
    model: AutoregressiveModel, x: Tensor, condition: Tensor | None = None
) -> tuple[Tensor, ...]:
    """Return E_q(z|x)[z] of each level of latents, (batch, units) float64 on the CPU."""
    posterior = _with_latents(model).posterior(x, condition)
    return tuple(q.mean.double().flatten(1).cpu() for q in posterior)


def units_in_use(
    means: Sequence[tuple[Tensor, ...]], threshold: float = 0.01
) -> tuple[tuple[int, int], ...]:
    """Return what `active_units` does, of `posterior_means` of two events or more, by batches."""
    spread = [torch.cat(level).var(0) for level in zip(*means, strict=True)]
    return tuple((int((variance > threshold).sum()), len(variance)) for variance in spread)


@torch.no_grad()
def walk(
    model: AutoregressiveModel,
    first: Tensor,
    second: Tensor,
    num_steps: int,
    condition: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw events at latents between the latents of two events, (batch, steps, *event.shape).

    x_i ~ p(x | z_i),  z_i = (1 - t_i) z + t_i z',  t_i = i / (steps - 1),

    with z and z' the means of q(z | first) and q(z | second), at all levels, and the same noise of
    the pixels all the way, so that what changes is due to the latents.

    Arguments:
        model: with latents.
        first: events at one end, (batch, *event.shape).
        second: events at the other end, (batch, *event.shape).
        num_steps: >= 2, both ends included.
        generator: source of the noise, on the model's device.

    Example:
        >>> import arcore
        >>> model = arcore.create_model("pixelvae", arcore.events.Binary((1, 4, 4)))
        >>> walk(model, torch.zeros(2, 1, 4, 4), torch.ones(2, 1, 4, 4), 5).shape
        torch.Size([2, 5, 1, 4, 4])
    """
    latent = _with_latents(model)
    ends = [[q.mean for q in latent.posterior(x, condition)] for x in (first, second)]
    line = tuple(between(a, b, num_steps).flatten(0, 1) for a, b in zip(*ends, strict=True))
    given = None if condition is None else condition.repeat_interleave(num_steps, 0)
    with generation.drawing(latent, len(line[0])):
        decoder = latent.decoder(len(line[0]), given, line)
        return decode_with(model, decoder, len(first), num_steps, generator)


def _with_latents(model: AutoregressiveModel) -> LatentVariableModel:
    if not isinstance(model, LatentVariableModel):
        raise ValueError(f"model: expected one with latents, got {type(model).__name__}")
    return model
