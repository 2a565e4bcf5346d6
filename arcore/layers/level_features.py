"""How levels and conditions enter a network, and how its outputs become distributions."""

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from arcore.distributions.discrete import Bits, Softmax
from arcore.events import Binary, Event, Levels, Real, Table, is_real
from arcore.layers import table_features
from arcore.primitives.checks import require
from arcore.primitives.precision import at_least_float32
from arcore.primitives.transfer import to_device


def num_features(event: Event, encoding: str) -> int:
    """Number of input features per dimension: 1 when scaled, num_levels - 1 when one-hot."""
    if isinstance(event, Table):
        return table_features.num_features(event, encoding)
    if is_real(event):
        require(encoding == "scaled", "inputs", "scaled for reals", encoding)
        return 1
    assert isinstance(event, Levels)
    return event.num_levels - 1 if encoding == "one_hot" else 1


def encode(
    x: Tensor, event: Event, encoding: str, dtype: torch.dtype, dimensions: Tensor | None = None
) -> Tensor:
    """Encode levels (batch, D) as features (batch, D, F), all zero exactly where a level is 0.

    `scaled` gives x / (k - 1); `one_hot` gives the indicators of levels 1..k-1. Level 0 has no
    indicator of its own, which leaves sparse data sparse. Where k differs from dimension to
    dimension, there are indicators for the largest, and `dimensions` says which ones the columns
    of x are, all of them in their order if it is None. Columns of a table: `table_features`.
    """
    if isinstance(event, Table):
        return table_features.encode(x, event, encoding, dtype, dimensions)
    assert isinstance(event, Levels)
    if encoding == "one_hot":
        levels = torch.arange(1, event.num_levels, device=x.device)
        return (x.long()[..., None] == levels).to(dtype)
    wide = at_least_float32(dtype)  # float16 ends at 65,504
    features = x[..., None].to(wide)
    if event.uneven is not None:
        highest = _numbers(event, dimensions, x.device) - 1
        return (features / highest[:, None].to(wide)).to(dtype)
    return (features if event.num_levels == 2 else features / (event.num_levels - 1)).to(dtype)


def _numbers(event: Levels, dimensions: Tensor | int | None, device: torch.device) -> Tensor:
    """Number of levels of each dimension, (D,) int64."""
    numbers = to_device(torch.tensor(event.levels_by_dimension, device="cpu"), device)
    return numbers if dimensions is None else numbers[dimensions]


def expected(logits: Tensor, event: Event, encoding: str, dimensions: Tensor | slice) -> Tensor:
    """Return the mean of `encode` under the softmax of logits (*batch, D, k), (*batch, D, F).

    `dimensions` says which ones the logits are of.
    """
    if logits.shape[-1] == 1:
        return logits.sigmoid()
    assert isinstance(event, Levels)
    every = torch.arange(event.size, device=logits.device)
    given = conditionals(logits, event, every[dimensions])
    assert isinstance(given, Softmax)
    chances = given.probs.to(logits.dtype)
    if encoding == "one_hot":
        return chances[..., 1:]
    levels = torch.arange(event.num_levels, device=logits.device)
    values = encode(levels[:, None].expand(-1, len(every)), event, encoding, logits.dtype)
    return (chances * values[:, dimensions, 0].t()).sum(-1, keepdim=True)


def encode_sparsely(
    x: Tensor, event: Event, encoding: str, dtype: torch.dtype, dimensions: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return the one feature of each level that `encode` makes other than zero, and its value."""
    if isinstance(event, Table):
        features = table_features.encode(x, event, encoding, dtype, dimensions)
        columns = features.abs().argmax(-1)
        return columns, features.gather(-1, columns[..., None])[..., 0]
    assert isinstance(event, Levels)
    if encoding == "scaled":
        values = encode(x, event, encoding, dtype, dimensions)[..., 0]
        return torch.zeros_like(x, dtype=torch.int64), values
    levels = x.long()
    columns = (levels - 1).clamp(0, event.num_levels - 2)
    return columns, (levels == columns + 1).to(dtype)


def num_logits(event: Event) -> int:
    """Number of network outputs per dimension: 1 for a Bernoulli, k for a Categorical."""
    if isinstance(event, Table):
        return table_features.num_outputs(event)
    assert isinstance(event, Levels)
    return 1 if isinstance(event, Binary) else event.num_levels


def conditionals(
    logits: Tensor, event: Event, dimensions: Tensor | int | None = None
) -> Distribution:
    """Turn outputs (*batch, W) into conditionals of an event's dimensions, or of some of them.

    Levels that a dimension does not have are of probability zero.
    """
    if isinstance(event, Table):
        return table_features.conditionals(logits, event, dimensions)
    assert isinstance(event, Levels)
    if event.uneven is None:
        return distribution(logits)
    numbers = _numbers(event, dimensions, logits.device)
    never = torch.arange(event.num_levels, device=logits.device) >= numbers[..., None]
    return distribution(logits.masked_fill(never, -torch.inf))


def distribution(logits: Tensor) -> Distribution:
    """Turn logits (..., 1) into a Bernoulli, (..., k) into a softmax's categorical.

    Both are float32 or wider, since masses in half precision do not add up to one.
    """
    logits = logits.to(at_least_float32(logits.dtype))
    if logits.shape[-1] == 1:
        return Bits(logits=logits[..., 0], validate_args=False)
    return Softmax(logits)


def encode_image(image: Tensor, event: Event, encoding: str, dtype: torch.dtype) -> Tensor:
    """Encode values (batch, C, H, W) as features (batch, C * F, H, W), scaled ones in [-1, 1]."""
    if is_real(event):
        return centred(image.to(dtype), event)
    features = encode(image, event, encoding, dtype)
    if encoding == "scaled":
        features = 2 * features - 1
    return features.movedim(-1, 2).flatten(1, 2)


def centred(x: Tensor, event: Real) -> Tensor:
    """Map dequantised levels from [0, 1) to [-1, 1), and leave other reals as they are."""
    return x if event.bin_width is None else 2 * x - 1


def embedded(weight: Tensor, condition: Tensor) -> Tensor:
    """Look classes (batch,) up in the rows of a weight, or multiply vectors (batch, rows) by it.

    A class is the vector that has one 1. In the weight's own precision, autocast or not.
    """
    if not condition.is_floating_point():
        return weight[condition]
    with torch.autocast(weight.device.type, enabled=False):
        shift: Tensor = torch.tensordot(condition.to(weight.dtype), weight, 1)
    return shift


def condition_weight(rows: int | None, *shape: int) -> nn.Parameter | None:
    """Make the weight of a condition of `rows` classes or numbers, zero at first; None of none."""
    return None if rows is None else nn.Parameter(torch.zeros(rows, *shape))


def shifted(x: Tensor, weight: Tensor | None, condition: Tensor | None) -> Tensor:
    """Add the embedding of each event's condition to x, if there is a condition."""
    return x if condition is None or weight is None else x + embedded(weight, condition)
