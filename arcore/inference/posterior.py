"""Events given noisy or partial observations of their dimensions: a particle filter.

A model's factors p(x_t | x_<t) are the transition of a state space model whose state is all that
was drawn so far, and each dimension's likelihood is its observation. The filter follows the model's
own schedule, whatever was observed, and needs nothing of the model but its decoder.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Distribution
from torch.nn.functional import logsigmoid

from arcore import generation
from arcore.distributions.discrete import choose
from arcore.events import Gray, Levels
from arcore.model import AutoregressiveModel
from arcore.primitives.checks import require, require_int, require_levels, require_positive
from arcore.primitives.progress import progress_bar

RESAMPLE_ALL = 0.9  # rows below it are resampled with those that must be


@dataclass(frozen=True)
class Particles:
    """Weighted draws from a posterior.

    Attributes:
        x: (batch, particles, *event.shape) int64.
        weights: (batch, particles), of sum 1 in each row.
        log_evidence: (batch,), the estimate of ln p(y) in nats; its exponential is unbiased.
    """

    x: Tensor
    weights: Tensor
    log_evidence: Tensor

    def mean(self) -> Tensor:
        """Return the posterior mean of each dimension in levels, (batch, *event.shape)."""
        weights = self.weights.view(*self.weights.shape, *[1] * (self.x.dim() - 2))
        return (weights * self.x).sum(1)

    def draw(self, generator: torch.Generator | None = None) -> Tensor:
        """Draw one particle of each row by the weights, (batch, *event.shape)."""
        shape, device = self.weights.shape[:1], self.weights.device
        uniform = torch.rand(shape, generator=generator, device=device, dtype=self.weights.dtype)
        return self.x[torch.arange(len(self.x), device=device), choose(self.weights, uniform)]


def observation(x: Tensor, observed: Tensor, num_levels: int) -> Tensor:
    """Return ln p(y | x) of dimensions that are seen as they are or not at all, (batch, *shape, K).

    Arguments:
        x: (batch, *shape) levels; ignored where `observed` is False.
        observed: bool, of x's shape or of an event's.
        num_levels: K.

    Example:
        >>> observation(torch.tensor([[1, 0]]), torch.tensor([True, False]), 2).tolist()
        [[[-inf, 0.0], [0.0, 0.0]]]
    """
    fits = observed.dtype == torch.bool and observed.shape in (x.shape, x.shape[1:])
    shapes = f"bool of shape {tuple(x.shape)} or {tuple(x.shape[1:])}"
    require(fits, "observed", shapes, (observed.dtype, tuple(observed.shape)))
    require_levels(torch.where(observed, x, 0), num_levels, "x")
    possible = _one_hot(x, num_levels) | ~observed[..., None]
    return torch.where(possible, 0.0, -math.inf)


def replacement_noise(y: Tensor, probability: float, num_levels: int) -> Tensor:
    """Return ln p(y | x), (batch, *shape, K), where another level replaces each with a probability.

    It is ln(1 - q) for the level seen in y (batch, *shape), ln(q / (K - 1)) for the others, with q
    in (0, 1) and K >= 2; of bits these are flips.

    Example:
        >>> replacement_noise(torch.tensor([[1]]), 0.25, 2).exp().tolist()
        [[[0.25, 0.75]]]
    """
    require(0 < probability < 1, "probability", "a number in (0, 1)", probability)
    require_int(num_levels, "num_levels", 2)
    require_levels(y, num_levels, "y")
    stays, other = math.log1p(-probability), math.log(probability / (num_levels - 1))
    return torch.where(_one_hot(y, num_levels), stays, other)


def gaussian_noise(y: Tensor, deviation: float, num_levels: int) -> Tensor:
    """Return ln p(y | x), (batch, *shape, K), of densities y = x + deviation * N(0, 1) in levels.

    Example:
        >>> gaussian_noise(torch.tensor([[0.5]]), 1.0, 2).diff().item()
        0.0
    """
    require_positive(deviation, "deviation")
    require_int(num_levels, "num_levels", 2)
    away = (y.unsqueeze(-1) * 1.0 - torch.arange(num_levels, device=y.device)) / deviation
    return -0.5 * away**2 - math.log(deviation) - 0.5 * math.log(2 * math.pi)


@torch.no_grad()
def posterior(
    model: AutoregressiveModel,
    log_likelihood: Tensor,
    num_particles: int,
    condition: Tensor | None = None,
    generator: torch.Generator | None = None,
    *,
    resample_below: float = 0.5,
    progress: bool = False,
) -> Particles:
    """Draw events from p(x | y) ~ p(x) prod_d p(y_d | x_d) by a fully adapted particle filter.

    At each step t of the schedule a particle x_<t has the weight

        w *= sum_k p(k | x_<t) p(y_t | k),  x_t ~ p(k | x_<t) p(y_t | k) / that sum,

    where particles are resampled by their weights as soon as the effective number of one row,
    1 / sum w^2, is below a share of them; then the decoder takes in the earlier values again. The
    draws are exact as `num_particles` grows, and for any number where the observed dimensions come
    first in the schedule and are seen as they are.

    Arguments:
        model: exact, over levels.
        log_likelihood: (batch, *event.shape, K), ln p(y_d | x_d = k) (`observation`,
            `replacement_noise`, `gaussian_noise`).
        num_particles: >= 1.
        resample_below: share of effective particles in (0, 1].
        progress: show a bar, which needs tqdm.

    Raises:
        ValueError: for an ensemble, a bound, reals, other shapes, NaN or an impossible observation.

    Reference:
        Pitt and Shephard, "Filtering via Simulation: Auxiliary Particle Filters", JASA 1999.

    Example:
        >>> import arcore
        >>> model = arcore.create_model("nade", arcore.events.Binary((3,)), hidden=2)
        >>> seen = observation(torch.tensor([[0, 0, 1]]), torch.tensor([False, True, True]), 2)
        >>> posterior(model, seen, 4).x[0, :, 1:].unique(dim=0).tolist()
        [[0, 1]]
    """
    _check(model, log_likelihood, num_particles, resample_below)
    rows, size = len(log_likelihood), model.event.size
    condition = condition.to(model.device) if isinstance(condition, Tensor) else condition
    model._check_condition(condition, rows)
    generation.check_generator(generator, model.device)
    generation.require_finite_weights(model)
    likelihood = log_likelihood.to(model.device).double()
    likelihood = likelihood.reshape(rows, size, likelihood.shape[-1])
    of_row = torch.arange(rows, device=model.device).repeat_interleave(num_particles)
    given = None if condition is None else condition[of_row]
    x = torch.zeros(rows * num_particles, size, dtype=torch.int64, device=model.device)
    log_weights = torch.zeros(rows, num_particles, dtype=torch.float64, device=model.device)
    bar = progress_bar(progress, len(model.schedule), "filtering")
    with generation.drawing(model, len(x)), bar as advance:
        decoder = model.decoder(len(x), given)
        for step, block in enumerate(model.schedule):
            joint = _log_levels(decoder.next()) + likelihood[:, block][of_row]
            log_weights = log_weights + joint.logsumexp(-1).sum(-1).view_as(log_weights)
            possible = bool((log_weights.amax(1) > -math.inf).all())
            require(possible, "log_likelihood", "observations that are possible", "others")
            ancestors = _ancestors(log_weights, resample_below, generator)
            if ancestors is not None:
                log_weights, chosen = ancestors
                x, joint = x[chosen], joint[chosen]
                decoder = model.decoder(len(x), given)
                for before in model.schedule[:step]:
                    decoder.push(x[:, before])
            uniform = torch.rand(
                joint.shape[:-1], generator=generator, device=x.device, dtype=joint.dtype
            )
            x[:, block] = choose(joint.softmax(-1), uniform)
            decoder.push(x[:, block])
            advance(1)
    evidence = log_weights.logsumexp(1) - math.log(num_particles)
    shape = (rows, num_particles, *model.event.extents)
    return Particles(x.view(shape), log_weights.softmax(1), evidence)


def _ancestors(
    log_weights: Tensor, below: float, generator: torch.Generator | None
) -> tuple[Tensor, Tensor] | None:
    """Draw new log-weights and ancestors among all particles, systematically, if a row needs it."""
    rows, count = log_weights.shape
    weights = log_weights.softmax(1)
    effective = 1 / (weights**2).sum(1) / count
    if count == 1 or not bool((effective < below).any()):
        return None
    drawn = effective < max(below, RESAMPLE_ALL)
    offset = torch.rand(rows, 1, generator=generator, device=weights.device, dtype=weights.dtype)
    places = torch.arange(count, device=weights.device)
    points = (places + offset) / count
    chosen = torch.searchsorted(weights.cumsum(1), points, right=True).clamp(max=count - 1)
    chosen = torch.where(drawn[:, None], chosen, places)
    level = log_weights.logsumexp(1, keepdim=True) - math.log(count)
    log_weights = torch.where(drawn[:, None], level, log_weights)
    first = torch.arange(rows, device=weights.device)[:, None] * count
    return log_weights, (chosen + first).flatten()


def _log_levels(conditionals: Distribution) -> Tensor:
    """Return ln p of all levels, (*batch shape, K), in float64."""
    logits: Tensor = conditionals.logits.double()  # type: ignore[attr-defined]
    if isinstance(conditionals, Bernoulli):
        return torch.stack([logsigmoid(-logits), logsigmoid(logits)], -1)
    return logits.log_softmax(-1)


def _one_hot(x: Tensor, num_levels: int) -> Tensor:
    return x.long()[..., None] == torch.arange(num_levels, device=x.device)


def _check(
    model: AutoregressiveModel, log_likelihood: Tensor, num_particles: int, below: float
) -> None:
    event = model.event
    fits = isinstance(event, Levels) and not isinstance(event, Gray)
    fits = fits and model.exact and model.generates
    require(fits, "model", "an exact single model over levels", model)
    assert isinstance(event, Levels)
    require_int(num_particles, "num_particles", 1)
    require(0 < below <= 1, "resample_below", "a number in (0, 1]", below)
    shape = (*event.extents, event.num_levels)
    got = getattr(log_likelihood, "shape", (None,))[1:]
    require(got == shape, "log_likelihood", f"shape (batch, {str(shape)[1:]}", tuple(got))
    fits = not bool((log_likelihood.isnan() | (log_likelihood == math.inf)).any())
    require(fits, "log_likelihood", "numbers", "NaN or inf")
