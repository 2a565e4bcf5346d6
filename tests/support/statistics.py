"""Tiny alphabets enumerated, densities integrated, and tests of fit."""

import math

import numpy as np
import torch
from torch import Tensor

from arcore.distributions.real_mixture import RealMixture
from arcore.events import Levels
from arcore.model import AutoregressiveModel


def all_levels(event: Levels) -> Tensor:
    """All values of a tiny event, (states, *shape)."""
    counts = torch.tensor(event.levels_by_dimension)
    digits = torch.arange(int(counts.prod()))[:, None] // place_values(event) % counts
    return digits.view(-1, *event.shape)


def place_values(event: Levels) -> Tensor:
    return torch.tensor([1, *event.levels_by_dimension[:-1]]).cumprod(0)


def state_of(x: Tensor, event: Levels) -> Tensor:
    """The row of `all_levels` that each example is."""
    return (x.flatten(1) * place_values(event)).sum(1)


def chi_square_p_value(states: Tensor, probabilities: Tensor) -> float:
    """How well counts of drawn states fit; states expected fewer than 5 times are pooled."""
    expected = probabilities * len(states)
    observed = torch.bincount(states, minlength=len(expected)).double()
    if len(observed) > len(expected) or (observed[expected == 0] > 0).any():
        return 0.0  # what cannot be was drawn
    rare = expected < 5
    if rare.any():
        expected = torch.cat([expected[~rare], expected[rare].sum().view(1)])
        observed = torch.cat([observed[~rare], observed[rare].sum().view(1)])
    expected, observed = expected[expected > 0], observed[expected > 0]
    if len(expected) == 1:
        return 1.0
    statistic = ((observed - expected) ** 2 / expected).sum()
    return float(torch.special.gammaincc(torch.tensor((len(expected) - 1) / 2), statistic / 2))


def uniform_p_value(u: Tensor) -> float:
    """Kolmogorov and Smirnov's test that u (N,) is uniform on [0, 1], by its asymptotic law."""
    n, ordered = len(u), u.double().sort().values
    ranks = torch.arange(n + 1).double() / n
    distance = max((ranks[1:] - ordered).max().item(), (ordered - ranks[:-1]).max().item())
    z = (math.sqrt(n) + 0.12 + 0.11 / math.sqrt(n)) * distance
    terms = ((-1) ** (k - 1) * math.exp(-2 * (k * z) ** 2) for k in range(1, 50))
    return min(1.0, max(0.0, 2 * sum(terms)))


NODES, WEIGHTS = (torch.from_numpy(a) for a in np.polynomial.legendre.leggauss(10))
REACH = torch.tensor([0.5, 1, 2, 4, 7, 11, 18, 28, 42], dtype=torch.float64)


def quadrature(mixture: RealMixture) -> tuple[Tensor, Tensor]:
    """Gauss-Legendre nodes and weights (N, M) on the line, panels cut to N mixtures' scales."""
    means, scales = mixture.means[:, 0], mixture.log_scales[:, 0].exp()
    reach = torch.cat([-REACH, torch.zeros(1), REACH])
    edges = (means[..., None] + scales[..., None] * reach).flatten(1).sort(-1).values
    half = edges.diff(dim=-1)[..., None] / 2
    middle = (edges[:, :-1, None] + edges[:, 1:, None]) / 2
    return (middle + half * NODES).flatten(1), (half * WEIGHTS).flatten(1)


@torch.no_grad()
def total_mass(model: AutoregressiveModel, condition: Tensor | None) -> float:
    """The integral of a density over the line or the plane, under the condition of one row."""

    def repeated(rows: int) -> Tensor | None:
        return None if condition is None else condition.expand(rows, *condition.shape[1:])

    def density(x: Tensor) -> Tensor:
        parts = x.view(-1, *model.event.shape).split(1 << 16)
        return torch.cat([model.log_prob(part, repeated(len(part))) for part in parts]).exp()

    x, w = quadrature(model.decoder(1, condition).next())
    if model.event.size == 1:
        return (density(x[0]) * w[0]).sum().item()
    decoder = model.decoder(x.shape[1], repeated(x.shape[1]))
    decoder.push(x.t())
    y, v = quadrature(decoder.next())
    pairs = torch.stack([x.t().expand_as(y), y], -1)[..., torch.cat(model.schedule).argsort()]
    return (density(pairs.flatten(0, 1)).view_as(v) * v * w.t()).sum().item()
