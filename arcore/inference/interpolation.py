"""Walks between two conditions: events drawn along a line, all with the same noise."""

import torch
from torch import Tensor

from arcore import generation
from arcore.conditions import Vector
from arcore.decoding import Decoder
from arcore.distributions.drawing import invert
from arcore.events import Levels
from arcore.model import AutoregressiveModel
from arcore.primitives.checks import require, require_int
from arcore.primitives.precision import at_least_float32


def between(first: Tensor, second: Tensor, num_steps: int) -> Tensor:
    """Return equally spaced points of the lines from `first` to `second`, (batch, steps, ...).

    Both ends, floating-point (batch, ...), are included; `num_steps` is at least 2.

    Example:
        >>> between(torch.tensor([[0.0, 4.0]]), torch.tensor([[2.0, 0.0]]), 3).tolist()
        [[[0.0, 4.0], [1.0, 2.0], [2.0, 0.0]]]
    """
    require_int(num_steps, "num_steps", 2)
    require(first.shape == second.shape, "second", f"shape {tuple(first.shape)}", second.shape)
    require(first.is_floating_point(), "first", "floating point", first.dtype)
    require(second.dtype == first.dtype, "second", f"{first.dtype}", second.dtype)
    share = torch.linspace(0, 1, num_steps, dtype=first.dtype, device=first.device)
    share = share.view(-1, *[1] * (first.dim() - 1))
    return torch.lerp(first[:, None], second[:, None], share)


@torch.no_grad()
def walk(
    model: AutoregressiveModel,
    first: Tensor,
    second: Tensor,
    num_steps: int,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw events given vectors on the line between two, (batch, steps, *event.shape).

    x_i ~ p(x | (1 - t_i) h + t_i h'),  t_i = i / (steps - 1),

    each by inverting its conditionals at the same uniform numbers all the way, so that what changes
    is due to the condition.

    Arguments:
        model: over levels, conditioned on a vector (`condition_size`).
        first: h, (batch, size).
        second: h', (batch, size).
        num_steps: >= 2, both ends included.
        generator: source of the noise, on the model's device.

    Reference:
        van den Oord et al., "Conditional Image Generation with PixelCNN Decoders", NIPS 2016,
        section 3.3 (portraits).

    Example:
        >>> import arcore
        >>> event = arcore.events.Binary((1, 4, 4))
        >>> model = arcore.create_model("gated_pixelcnn", event, width=4, condition_size=2)
        >>> walk(model, torch.zeros(3, 2), torch.ones(3, 2), 5).shape
        torch.Size([3, 5, 1, 4, 4])
    """
    kind = model.condition_kind
    require(isinstance(kind, Vector), "model", "one conditioned on a vector", model)
    line = between(first, second, num_steps).flatten(0, 1)
    with generation.drawing(model, len(line)):
        decoder = model.decoder(len(line), line)
        return decode_with(model, decoder, len(first), num_steps, generator)


@torch.no_grad()
def decode_with(
    model: AutoregressiveModel,
    decoder: Decoder,
    batch: int,
    num_steps: int,
    generator: torch.Generator | None,
) -> Tensor:
    """Draw by a decoder of batch * steps events, with the same uniform numbers along a walk."""
    event = model.event
    fits = isinstance(event, Levels) and not event.is_open
    require(fits, "model", "one over levels, of events of one length", model)
    generation.check_generator(generator, model.device)
    generation.require_finite_weights(model)
    dtype, device = at_least_float32(model.dtype), model.device
    shape = (batch, 1, event.size)
    uniform = torch.rand(shape, generator=generator, dtype=dtype, device=device)
    uniform = uniform.expand(-1, num_steps, -1).flatten(0, 1)
    x = torch.zeros(uniform.shape, dtype=torch.int64, device=device)
    for block in decoder.blocks:
        x[:, block] = invert(decoder.next(), uniform[:, block])
        decoder.push(x[:, block])
    return x.view(batch, num_steps, *event.extents)
