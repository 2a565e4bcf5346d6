"""Models with latent variables: a bound on the likelihood, and exact conditionals given latents.

`arcore.families.latent_sampling` holds what such a model draws.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import Distribution, Normal, kl_divergence

from arcore.events import Event
from arcore.families.latent_sampling import Latents, LatentSampling, reparameterize, widened
from arcore.hyperparameters import Hyperparameters
from arcore.primitives.checks import require_int
from arcore.primitives.precision import at_least_float32, summed

FLOATS_AT_ONCE = 1 << 22  # importance samples are scored in parts whose widest layer is no larger


class LatentVariableModel(LatentSampling):
    """Base of models p(x) = int p(x | z) p(z) dz whose p(x | z) is exact and autoregressive.

    The latents z = (z_1, z_2, ...) are tensors of Gaussians in the order in which they are drawn:
    p(z) = prod_l p(z_l | z_<l), q(z | x) = prod_l q(z_l | x). With one draw of z from q,

        ELBO(x) = ln p(x | z) - sum_l KL(q(z_l | x) || p(z_l | z_<l)),

    whose expectation is at most ln p(x). `log_prob` is this bound under noise that is a function of
    x alone (`arcore.primitives.row_noise`), the same at every call and in every batch: its mean
    over rows estimates a lower bound. `importance_weighted` is a tighter estimate. `conditionals`
    are p(x_d | x_<d, z) at the posterior's mean, which all of x decides: not those of p(x).
    `conditionals_given` and `decoder(..., latents=z)` are exact for given latents.

    Two things keep a level from being given up, by the gradient of its KL alone: warm-up weighs it
    by beta_l = min(1, (t + 1) / warmup_l) at step t (see `set_step`); and it has none for an event
    whose KL_l is below `free_nats[l]` (free bits; the paper compares the mean of a minibatch).

    A subclass defines `latent_shapes`, `latent_levels`, `_posterior`, `_prior`, `_from_prior`,
    `_conditionals_given`, `_decoder_given` and `_width`, and passes on what warms up.

    Reference:
        Kingma, Salimans, Jozefowicz, Chen, Sutskever and Welling, "Improving Variational Inference
        with Inverse Autoregressive Flow", NIPS 2016, eq. 15 (free bits).
    """

    exact = False

    def __init__(
        self,
        event: Event,
        hyperparameters: Hyperparameters,
        warmup_steps: Sequence[int] = (0,),
        free_nats: Sequence[float] = (),
    ) -> None:
        super().__init__(event, hyperparameters)
        self.warmup_steps, self.free_nats = tuple(warmup_steps), tuple(free_nats)
        self.changes_by_step = max(self.warmup_steps) > 0
        self.beta: Tensor
        self.register_buffer("beta", torch.ones(len(self.warmup_steps)), persistent=False)

    def _rebuild(self) -> None:
        self.beta = torch.ones_like(self.beta, device=self.device)

    def train(self, mode: bool = True) -> LatentVariableModel:
        """Switch between training and evaluation, which ends the warm-up."""
        super().train(mode)
        if not mode:
            self.beta = torch.ones_like(self.beta)
        return self

    def _set_step(self, seed: int, step: int) -> None:
        """Set the weight of each KL's gradient in training, which is 1 out of it."""
        weights = [min(1.0, (step + 1) / max(steps, 1)) for steps in self.warmup_steps]
        self.beta = _without_a_wait(weights, self.beta)

    def _sample_training_noise(self, rows: int) -> Tensor:
        return self._normal(rows)

    @property
    @abc.abstractmethod
    def _width(self) -> int:
        """Floats per event of the widest layer."""

    # -- scoring

    def forward(
        self, x: Tensor, condition: Tensor | None = None, scored: Tensor | None = None
    ) -> Tensor:
        """Return minus the bound of each example, (batch,), in nats, for training.

        Its gradient is that of -ln p(x | z) + sum_l beta_l KL_l [KL_l >= free_nats[l]], so that
        neither warm-up nor free bits enter a reported number. z is drawn from q with the noise of
        `sample_training_noise`, or by torch's global generator. Only shapes are checked.
        """
        self._check_shapes(x, condition, scored)
        noise = self._as_latents(self._training_noise(len(x)))
        likelihood, divergences = self._terms(x, condition, noise)
        own = self._begin_step()
        fixed = divergences.detach()
        weights = self.beta.to(fixed.dtype)
        if self.free_nats:
            weights = weights * (fixed >= _without_a_wait(self.free_nats, fixed))
        nothing = divergences - fixed  # in value, not in gradient
        loss = divergences.sum(1) - likelihood - ((1 - weights) * nothing).sum(1)
        self._end_step(own)
        return loss

    def elbo(
        self, x: Tensor, condition: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """Return the evidence lower bound with one draw of the latents, (batch,), in nats.

        Its expectation over draws is at most ln p(x | condition).
        """
        self._check(x, condition)
        likelihood, divergences = self._terms(x, condition, self._noise(len(x), generator))
        return likelihood - divergences.sum(1)

    def _log_prob(self, x: Tensor, condition: Tensor | None) -> Tensor:
        likelihood, divergences = self._terms(x, condition, self._fixed_noise(x))
        return likelihood - divergences.sum(1)

    def bound_terms(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return what each of `latent_levels` costs in nats, (batch, levels): the KLs, then pixels.

            KL(q(z_l | x) || p(z_l | z_<l)),  and  -ln p(x | z) for the last,

        under the noise of `log_prob`; their sum is minus it. A level whose KL is near 0 tells
        nothing of x.
        """
        self._check(x, condition)
        likelihood, divergences = self._terms(x, condition, self._fixed_noise(x))
        return torch.cat([divergences, -likelihood[:, None]], 1)

    def _terms(self, x: Tensor, condition: Tensor | None, noise: Latents) -> tuple[Tensor, Tensor]:
        """Return ln p(x | z), (batch,), and the KLs, (batch, latents), z = mean + sigma noise."""
        posterior = self._posterior(x, condition)
        latents = reparameterize(posterior, noise)
        divergences = [
            summed(kl_divergence(widened(q), widened(p)))
            for q, p in zip(posterior, self._prior(latents, condition), strict=True)
        ]
        return self._log_likelihood(x, latents, condition), torch.stack(divergences, 1)

    def _log_estimate(self, x: Tensor, condition: Tensor | None) -> Tensor:
        """Return ln p(x | z) + ln p(z) - ln q(z | x), (batch,), under the noise of `log_prob`."""
        posterior = self._posterior(x, condition)
        latents = reparameterize(posterior, self._fixed_noise(x))
        ratio = self._log_ratio(latents, posterior, condition)
        return self._log_likelihood(x, latents, condition) + ratio

    def _log_likelihood(self, x: Tensor, latents: Latents, condition: Tensor | None) -> Tensor:
        conditionals = self._conditionals_given(x, latents, condition)
        return summed(conditionals.log_prob(self._as_value(x)))

    @torch.no_grad()
    def importance_weighted(
        self,
        x: Tensor,
        num_samples: int,
        condition: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Return the importance-weighted estimate of ln p(x | condition), (batch,), in nats.

            logsumexp_k [ln p(x | z_k) + ln p(z_k) - ln q(z_k | x)] - ln K,  z_k ~ q(z | x).

        Its expectation is a lower bound, above the ELBO, and rises to ln p(x) as K grows.

        Arguments:
            x: (batch, *event.shape).
            num_samples: K >= 1.
        """
        require_int(num_samples, "num_samples", 1)
        self._check(x, condition)
        if not len(x):
            return torch.empty(0, dtype=at_least_float32(self.dtype), device=self.device)
        pieces = x.split(max(1, FLOATS_AT_ONCE // self._width))
        given = [None] * len(pieces) if condition is None else condition.split(len(pieces[0]))
        return torch.cat(
            [
                self._importance_weighted(piece, num_samples, label, generator)
                for piece, label in zip(pieces, given, strict=True)
            ]
        )

    def _importance_weighted(
        self,
        x: Tensor,
        num_samples: int,
        condition: Tensor | None,
        generator: torch.Generator | None,
    ) -> Tensor:
        """Estimate ln p of rows of which one sample each fits in memory at once."""
        count = max(1, FLOATS_AT_ONCE // (self._width * len(x)))
        posterior = self._posterior(x, condition)
        parts = []
        for first in range(0, num_samples, count):
            samples = min(count, num_samples - first)
            wide = x.repeat_interleave(samples, 0)
            label = None if condition is None else condition.repeat_interleave(samples, 0)
            q = tuple(_repeat_normal(level, samples) for level in posterior)
            latents = reparameterize(q, self._noise(len(wide), generator))
            weights = self._log_likelihood(wide, latents, label)
            weights = weights + self._log_ratio(latents, q, label)
            parts.append(weights.view(len(x), samples))
        return torch.logsumexp(torch.cat(parts, 1), 1) - math.log(num_samples)

    def _conditionals(self, x: Tensor, condition: Tensor | None) -> Distribution:
        means = tuple(q.mean for q in self._posterior(x, condition))
        return self._conditionals_given(x, means, condition)

    def conditionals_given(
        self, x: Tensor, latents: Latents, condition: Tensor | None = None
    ) -> Distribution:
        """Return the conditionals p(x_d | x_<d, z) at given latents, teacher-forced."""
        self._check(x, condition)
        self._check_latents(latents, len(x))
        return self._conditionals_given(x, latents, condition)


def _without_a_wait(values: Sequence[float], like: Tensor) -> Tensor:
    """Return values as a vector of a tensor's type, made where it is."""
    return torch.cat([like.new_full((1,), value) for value in values])


def _repeat_normal(q: Normal, count: int) -> Normal:
    mean, scale = (each.repeat_interleave(count, 0) for each in (q.mean, q.stddev))
    return Normal(mean, scale, validate_args=False)
