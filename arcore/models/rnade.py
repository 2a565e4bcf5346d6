"""RNADE, the real-valued neural autoregressive density estimator."""

import dataclasses
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.distributions import Distribution
from torch.utils.checkpoint import checkpoint

from arcore.decoding import Decoder
from arcore.distributions.real_mixture import COMPONENTS, LEAST_LOG_SCALE, RealMixture
from arcore.events import Event, Real
from arcore.families.ordered import OrderedModel
from arcore.hyperparameters import CheckedHyperparameters
from arcore.layers.level_features import condition_weight, shifted
from arcore.primitives.checks import require


@dataclasses.dataclass(frozen=True, kw_only=True)
class RNADEConfig(CheckedHyperparameters):
    """Hyperparameters of RNADE.

    Arguments:
        hidden: number of hidden units H.
        components: components K of each dimension's mixture.
        component: gaussian or laplace.
        sigma_preconditioner: multiply the gradient of the means' own weights and biases by each
            component's scale; the loss and all other gradients stay the same.
        min_log_scale: floor of the components' log-scales, for the density and for draws alike;
            -80 or above.
            Data on a grid (rounded measurements) has no finite best likelihood without one.
        mean_range: where the initial means lie, evenly spaced; None is [0, 1] for dequantised
            events and [-3, 3] for others, which suits standardised data.
        ordering: a name of `arcore.orderings.ORDERINGS`; `ordering_seed` serves `random`.
        num_classes: classes of an optional condition, which shifts the hidden bias.
        condition_size: length of a vector that is the condition instead.
        block: dimensions handled at once; memory per datum grows with H * (D / block + block).
    """

    hidden: int = 50
    components: int = 10
    component: str = "gaussian"
    sigma_preconditioner: bool = False
    min_log_scale: float = -7.0
    mean_range: tuple[float, float] | None = None
    ordering: str = "raster"
    ordering_seed: int = 0
    num_classes: int | None = None
    condition_size: int | None = None
    block: int = 32
    choices = {"component": COMPONENTS}

    def __post_init__(self) -> None:
        super().__post_init__()
        floor = self.min_log_scale
        require(_fits_float32(floor), "min_log_scale", "a finite number", floor)
        least = LEAST_LOG_SCALE
        require(floor >= least, "min_log_scale", f"a number of {least} or more", floor)
        span = self.mean_range
        fits = span is None or (
            isinstance(span, tuple)
            and len(span) == 2
            and all(map(_fits_float32, span))
            and span[0] < span[1]
            and _fits_float32(span[1] - span[0])
            and (span[1] - span[0]) / self.components >= torch.finfo(torch.float32).tiny
        )
        require(fits, "mean_range", "two rising finite numbers or null", span)


def _fits_float32(value: object) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and abs(value) <= torch.finfo(torch.float32).max  # type: ignore[arg-type]


class RNADE(OrderedModel):
    """Real-valued neural autoregressive density estimator.

    With an ordering o, hidden activations as NADE's and K components per dimension,

        a_1 = c,  h_d = relu(rho_d a_d),  a_{d+1} = a_d + W[:, od] x_od,
        (z, mu, ln s) = V_od h_d + b_od,  p(x_od | x_o<d) = sum_j softmax(z)_j N(x_od; mu_j, s_j),

    or Laplacians in place of N. rho_d is a learned scalar of each dimension, 1 at first. Scoring
    and its gradient take O(D H K) per datum; activations are cumulative sums over `block`
    dimensions, which the backward pass computes again, one block at a time.

    A scale never falls below exp(min_log_scale), when scoring and when sampling. Since a tempered
    mixture density has no closed form, `sample` and `impute` refuse a temperature other than 1.

    Reference:
        Uria, Murray and Larochelle, "RNADE: The real-valued neural autoregressive
        density-estimator", NIPS 2013, eq. 5-14 and sec. 3.1.

    Example:
        >>> import torch, arcore
        >>> model = arcore.create_model("rnade", arcore.events.Real((11,)), components=5)
        >>> model.log_prob(torch.zeros(3, 11)).shape  # nats
        torch.Size([3])
    """

    Config = RNADEConfig
    supports = (Real,)
    hyperparameters: RNADEConfig

    def __init__(self, event: Event, hyperparameters: RNADEConfig) -> None:
        super().__init__(event, hyperparameters)
        p = hyperparameters
        size, hidden, k = event.size, p.hidden, p.components
        self.input_weight = nn.Parameter(torch.empty(size, hidden))
        self.hidden_bias = nn.Parameter(torch.zeros(hidden))
        self.rho = nn.Parameter(torch.ones(size))
        self.mean_weight = nn.Parameter(torch.empty(size, k, hidden))
        self.mean_bias = nn.Parameter(torch.empty(size, k))
        self.shape_weight = nn.Parameter(torch.empty(size, 2 * k, hidden))  # weights, log-scales
        self.shape_bias = nn.Parameter(torch.zeros(size, 2 * k))
        for weight in (self.input_weight, self.mean_weight, self.shape_weight):
            nn.init.normal_(weight, std=0.01)
        low, high = p.mean_range or ((-3.0, 3.0) if _bin_width(event) is None else (0.0, 1.0))
        spacing = (high - low) / k
        with torch.no_grad():
            self.mean_bias.copy_(low + spacing * (torch.arange(k) + 0.5))
            self.shape_bias[:, k:] = max(math.log(spacing), p.min_log_scale)
        self.class_bias = condition_weight(p.num_classes or p.condition_size, hidden)
        self._rebuild()

    def _start(self, batch: int, condition: Tensor | None) -> Tensor:
        return shifted(self.hidden_bias, self.class_bias, condition).expand(batch, -1)

    def _conditionals(self, x: Tensor, condition: Tensor | None) -> Distribution:
        """Weights are stored in the ordering: row t belongs to the t-th dimension drawn."""
        p = self.hyperparameters
        ordered = x.flatten(1)[:, self.order].to(self.dtype)
        own = (self.input_weight, self.rho, self.mean_weight, self.mean_bias)
        blocks = zip(
            ordered.split(p.block, 1),
            *(weight.split(p.block) for weight in (*own, self.shape_weight, self.shape_bias)),
            strict=True,
        )
        a, parts = self._start(len(x), condition), []
        with torch.autocast(x.device.type, enabled=False):  # means need more than 8 bits
            for block in blocks:
                *outputs, a = self._block(a, *block)
                parts.append(outputs)
        means, shapes = (torch.cat(kind, 1)[:, self.position] for kind in zip(*parts, strict=True))
        extents = self.event.extents
        return self._mixture(means.unflatten(1, extents), shapes.unflatten(1, extents))

    def _block(self, *inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return `_outputs`; training keeps its inputs alone where there are several blocks."""
        if not torch.is_grad_enabled() or self.event.size <= self.hyperparameters.block:
            return self._outputs(*inputs)
        return checkpoint(self._outputs, *inputs, use_reentrant=False, preserve_rng_state=False)

    def _outputs(
        self, a: Tensor, x: Tensor, w: Tensor, rho: Tensor, mean_v: Tensor, mean_b: Tensor,
        shape_v: Tensor, shape_b: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        """Outputs of a block's dimensions, (batch, width, K or 2 K), and the next a."""
        steps = torch.cat([a[:, None], x[..., None] * w], 1).cumsum(1)
        h = torch.relu(rho[:, None] * steps[:, :-1]).transpose(0, 1)
        shapes = torch.baddbmm(shape_b[:, None], h, shape_v.transpose(1, 2))
        if self.hyperparameters.sigma_preconditioner:
            floor = self.hyperparameters.min_log_scale
            scales = shapes.detach()[..., mean_b.shape[1] :].clamp(min=floor).exp()
            means = _PreconditionedMeans.apply(h, mean_v, mean_b, scales)
        else:
            means = torch.baddbmm(mean_b[:, None], h, mean_v.transpose(1, 2))
        # A view of the last step would keep all the others in memory.
        return means.transpose(0, 1), shapes.transpose(0, 1), steps[:, -1].clone()

    def _mixture(self, means: Tensor, shapes: Tensor) -> RealMixture:
        p = self.hyperparameters
        log_weights, log_scales = shapes.chunk(2, -1)
        return RealMixture(p.component, log_weights, means, log_scales, p.min_log_scale)

    def _decoder(self, batch: int, condition: Tensor | None) -> Decoder:
        return RNADEDecoder(self, batch, condition)


class RNADEDecoder(Decoder):
    """Keeps a_d and adds one column of W at each push."""

    def __init__(self, model: RNADE, batch: int, condition: Tensor | None) -> None:
        super().__init__(model.schedule, batch)
        self.model = model
        self.activations = model._start(batch, condition).clone()

    def _next(self, block: Tensor) -> Distribution:
        model, t = self.model, self.position
        h = torch.relu(model.rho[t] * self.activations)
        means = h @ model.mean_weight[t].t() + model.mean_bias[t]
        shapes = h @ model.shape_weight[t].t() + model.shape_bias[t]
        return model._mixture(means[:, None], shapes[:, None])

    def _push(self, block: Tensor, values: Tensor) -> None:
        values = values.to(self.activations.dtype)
        self.activations += values * self.model.input_weight[self.position]


def _bin_width(event: Event) -> float | None:
    return event.bin_width if isinstance(event, Real) else None


class _PreconditionedMeans(torch.autograd.Function):
    """mu = V h + b; backward multiplies the gradients of V and b, not of h, by the scales."""

    @staticmethod
    def forward(ctx: Any, h: Tensor, v: Tensor, b: Tensor, scales: Tensor) -> Tensor:
        ctx.save_for_backward(h, v, scales)
        return torch.baddbmm(b[:, None], h, v.transpose(1, 2))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        h, v, scales = ctx.saved_tensors
        scaled = gradient * scales
        return gradient @ v, scaled.transpose(1, 2) @ h, scaled.sum(1), None
