"""How rows of a table enter a network, and how its outputs become conditionals of columns."""

import math

import torch
from torch import Tensor

from arcore.distributions.real_mixture import RealMixture
from arcore.distributions.table_row import TableRow
from arcore.events import Table
from arcore.primitives.precision import at_least_float32
from arcore.primitives.transfer import to_device

COMPONENTS = 8  # Gaussians of a column of reals
SPACING = 6 / COMPONENTS  # of their means at first, which reach to 3 deviations
MIN_LOG_SCALE = -5.0  # of standardised reals: rounded values would have no finite best likelihood


def num_features(table: Table, encoding: str) -> int:
    """Number of inputs of each column: the most that one needs."""
    hot = [c.count for c in table.columns if c.names or encoding == "one_hot"]
    return max(2, *hot, *(2 + len(c.atoms) for c in table.columns)) - 1


def num_outputs(table: Table) -> int:
    """Number of outputs of each column: of levels, or of weights, means and log-scales, and atoms.

    Where a column of reals has atoms, its outcomes come after what its mixture needs.
    """
    mixed = [3 * COMPONENTS + c.num_outcomes for c in table.columns if c.atoms]
    return max(3 * COMPONENTS, *(column.count for column in table.columns), *mixed)


def _numbers(
    table: Table, encoding: str, device: torch.device, dimensions: Tensor | int | None
) -> tuple[Tensor, ...]:
    """Return levels (0 for reals), whether inputs are one-hot, shift and scale of columns."""
    rows = []
    for column in table.columns:
        is_hot = bool(column.names) or (encoding == "one_hot" and column.count > 0)
        scale = 1.0 if is_hot else column.count - 1.0 if column.count else column.deviation
        rows.append((column.count, is_hot, 0.0 if column.count else column.mean, scale))
    found = to_device(torch.tensor(rows, dtype=torch.float64, device="cpu"), device)
    return (found if dimensions is None else found[dimensions]).unbind(-1)


def _atoms(table: Table, device: torch.device, dimensions: Tensor | int | None) -> Tensor:
    """Return the atoms of columns, (D, most), NaN where a column has fewer."""
    most = max(len(column.atoms) for column in table.columns)
    rows = [[*column.atoms, *[math.nan] * (most - len(column.atoms))] for column in table.columns]
    found = torch.tensor(rows, dtype=torch.float64, device="cpu").view(len(rows), most)
    found = to_device(found, device)
    return found if dimensions is None else found[dimensions]


def encode(
    x: Tensor, table: Table, encoding: str, dtype: torch.dtype, dimensions: Tensor | None = None
) -> Tensor:
    """Encode cells (batch, D) as features (batch, D, F).

    A name is one-hot, without an indicator of the first; so is an integer where `encoding` is
    one_hot, and else level / (k - 1). A real is standardised, or the indicator of its atom.
    """
    _, is_hot, shift, scale = _numbers(table, encoding, x.device, dimensions)
    places = torch.arange(num_features(table, encoding), device=x.device)
    number = ((x - shift) / scale).to(dtype)[..., None] * (places == 0)
    atoms = _atoms(table, x.device, dimensions)
    if most := atoms.shape[-1]:
        found = (x[..., None] == atoms).to(dtype)
        number = number * (1 - found.sum(-1, keepdim=True))
        number[..., 1 : 1 + most] += found
    return torch.where(is_hot[:, None] > 0, (x[..., None] == places + 1).to(dtype), number)


def conditionals(outputs: Tensor, table: Table, dimensions: Tensor | int | None = None) -> TableRow:
    """Turn outputs (*batch, W) into conditionals, of all columns or of some.

    With zero outputs, levels are equally likely, and the components of reals are spread evenly.
    """
    outputs = outputs.to(at_least_float32(outputs.dtype))
    counts, _, shift, scale = _numbers(table, "scaled", outputs.device, dimensions)
    atoms = _atoms(table, outputs.device, dimensions)
    # a column of reals has the density as its first level, and then its atoms
    levels = torch.where(counts > 0, counts, 1 + (~atoms.isnan()).sum(-1))
    places = torch.arange(outputs.shape[-1], device=outputs.device)
    never = places >= levels[..., None]
    logits = outputs
    if atoms.shape[-1]:
        first = torch.where(counts > 0, 0, 3 * COMPONENTS)[..., None]
        moved = (places + first).clamp(max=outputs.shape[-1] - 1)
        logits = outputs.gather(-1, moved.expand(outputs.shape))
    parts = outputs[..., : 3 * COMPONENTS].unflatten(-1, (3, COMPONENTS))
    weights, means, log_scales = parts.unbind(-2)
    centre = torch.arange(COMPONENTS, device=outputs.device) - (COMPONENTS - 1) / 2
    means, log_scales = means + SPACING * centre, log_scales + math.log(SPACING)
    mixture = RealMixture("gaussian", weights, means, log_scales, MIN_LOG_SCALE)
    logits = logits.masked_fill(never, -torch.inf)
    return TableRow(logits, mixture, counts == 0, shift, scale, atoms)
