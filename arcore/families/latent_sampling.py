"""What is drawn from a model with latent variables: its latents, then events given them."""

import abc
import math
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution, Normal

from arcore import generation
from arcore.decoding import Decoder
from arcore.distributions.drawing import SamplingOptions, draw, invert
from arcore.model import AutoregressiveModel
from arcore.primitives.checks import require, require_int, require_positive
from arcore.primitives.precision import at_least_float32, summed
from arcore.primitives.row_noise import for_each_row

Latents = tuple[Tensor, ...]


def widened(normal: Normal) -> Normal:
    """Return a Gaussian in float32 at least, since half precision overflows or is coarse."""
    dtype = at_least_float32(normal.loc.dtype)
    return Normal(normal.loc.to(dtype), normal.scale.to(dtype), validate_args=False)


class LatentSampling(AutoregressiveModel):
    """The parts of a latent-variable model, p(z), q(z | x) and p(x | z), and what they draw.

    `impute` draws by importance sampling, since p(z | x_observed) has no closed form: a completion
    under latents of the prior; then `impute_candidates` latents from q given that completion, each
    with a completion in raster order; of these one is drawn by its weight

        p(z) / q(z) prod_{d observed} p(x_d | x_<d, z),

    the exact posterior in the limit of many candidates, whatever is observed.

    Attributes:
        latent_shapes: of each of the latents of one event.
        latent_levels: names of what `sample_varying` can vary: the latents, then "pixels".
    """

    latent_shapes: tuple[tuple[int, ...], ...]
    impute_candidates: int = 8

    # -- the parts

    @abc.abstractmethod
    def _posterior(self, x: Tensor, condition: Tensor | None) -> tuple[Normal, ...]:
        """Return q(z_l | x) of each level, of batch shapes (batch, *latent_shapes[l])."""

    @abc.abstractmethod
    def _prior(self, latents: Latents, condition: Tensor | None) -> tuple[Normal, ...]:
        """Return p(z_l | z_<l) of each level, teacher-forced."""

    @abc.abstractmethod
    def _from_prior(self, noise: Latents, condition: Tensor | None) -> Latents:
        """Turn standard normal noise into a draw from the prior."""

    @abc.abstractmethod
    def _conditionals_given(
        self, x: Tensor, latents: Latents, condition: Tensor | None
    ) -> Distribution:
        """Conditionals p(x_d | x_<d, z) of a checked batch."""

    @abc.abstractmethod
    def _decoder_given(self, batch: int, latents: Latents, condition: Tensor | None) -> Decoder:
        """The incremental form of p(x | z)."""

    # -- latents

    def posterior(self, x: Tensor, condition: Tensor | None = None) -> tuple[Normal, ...]:
        """Return q(z_l | x, condition) of each level, batch shapes (batch, *latent_shapes[l])."""
        self._check(x, condition)
        return self._posterior(x, condition)

    def prior(self, latents: Latents, condition: Tensor | None = None) -> tuple[Normal, ...]:
        """Return p(z_l | z_<l, condition) of each level at given latents, teacher-forced."""
        batch = self._check_latents(latents)
        self._check_condition(condition, batch)
        return self._prior(latents, condition)

    def draw_latents(
        self,
        n: int,
        condition: Tensor | None = None,
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
    ) -> Latents:
        """Draw the latents of n events from the prior."""
        require_int(n, "n", 0)
        self._check_condition(condition, n)
        require_positive(temperature, "temperature")
        noise = self._noise(n, generator)
        return self._from_prior(tuple(e * math.sqrt(temperature) for e in noise), condition)

    def _noise(self, n: int, generator: torch.Generator | None = None) -> Latents:
        return self._as_latents(self._normal(n, generator))

    def _normal(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw standard normal noise, in float64 whatever the model's dtype."""
        generation.check_generator(generator, self.device)
        options: dict[str, Any] = {"dtype": torch.float64, "device": self.device}
        return torch.randn(n, self._noise_size, generator=generator, **options)

    def _fixed_noise(self, x: Tensor) -> Latents:
        """Draw noise that is a function of each event alone, whatever the rest of the batch."""

        def draw_row(generator: torch.Generator) -> Tensor:
            options: dict[str, Any] = {"dtype": torch.float64, "device": generator.device}
            return torch.randn(self._noise_size, generator=generator, **options)

        return self._as_latents(for_each_row(x, draw_row))

    @property
    def _noise_size(self) -> int:
        return sum(math.prod(shape) for shape in self.latent_shapes)

    def _as_latents(self, noise: Tensor) -> Latents:
        """Share rows of noise, (n, all latents' size), out among the latents."""
        sizes = [math.prod(shape) for shape in self.latent_shapes]
        parts = noise.to(self.device, self.dtype).split(sizes, 1)
        shapes = self.latent_shapes
        return tuple(part.reshape(-1, *shape) for part, shape in zip(parts, shapes, strict=True))

    def _check_latents(self, latents: Latents, batch: int | None = None) -> int:
        """Check latents of `batch` events, or of any number of events; return the number."""
        fits = isinstance(latents, tuple) and all(
            isinstance(z, Tensor) and z.dim() > 0 for z in latents
        )
        require(fits, "latents", "a tuple of tensors", latents)
        kinds = {(z.dtype, z.device) for z in latents}
        fits = kinds <= {(self.dtype, self.device)}
        require(fits, "latents", f"{self.dtype} on {self.device}", kinds)
        if batch is None:
            batch = len(latents[0]) if latents else 0
        expected = tuple((batch, *shape) for shape in self.latent_shapes)
        got = tuple(tuple(z.shape) for z in latents)
        require(got == expected, "latents", f"shapes {expected}", got)
        fits = all(bool(z.isfinite().all()) for z in latents)
        require(fits, "latents", "finite numbers", "NaN or infinity")
        return batch

    def _log_ratio(
        self, latents: Latents, posterior: tuple[Normal, ...], condition: Tensor | None
    ) -> Tensor:
        """Return ln p(z) - ln q(z), (batch,)."""
        terms = [
            summed(widened(p).log_prob(z) - widened(q).log_prob(z))
            for z, p, q in zip(latents, self._prior(latents, condition), posterior, strict=True)
        ]
        return torch.stack(terms).sum(0)

    # -- generation

    def decoder(
        self,
        batch: int,
        condition: Tensor | None = None,
        latents: Latents | None = None,
        generator: torch.Generator | None = None,
    ) -> Decoder:
        """Return the incremental form of p(x | z) for `batch` events generated side by side.

        Arguments:
            batch: number of events.
            latents: z; None draws them from the prior.
            generator: of that draw.
        """
        require_int(batch, "batch", 0)
        self._check_condition(condition, batch)
        with torch.no_grad():
            if latents is None:
                latents = self.draw_latents(batch, condition, generator)
            else:
                self._check_latents(latents, batch)
            return self._decoder_given(batch, latents, condition)

    def _complete(
        self, x: Tensor, known: Tensor, condition: Tensor | None, options: SamplingOptions
    ) -> Tensor:
        unseen = SamplingOptions(options.generator, options.temperature)
        n, shape = len(x), self.event.extents
        informed = known.any(1)
        anything = bool(informed.any())
        if anything and not bool(informed.all()):  # a row is drawn alike whatever the others are
            whole = torch.empty_like(x)
            for rows, counted in ((~informed, unseen), (informed, options)):
                label = None if condition is None else condition[rows]
                whole[rows] = self._complete(x[rows], known[rows], label, counted).flatten(1)
            return whole.view(n, *shape)
        temperature = 1.0 if anything else options.temperature
        latents = self.draw_latents(n, condition, options.generator, temperature)
        x, _ = self._fill(x, known, condition, latents, options)
        if not anything or bool(known.all()):
            return x.view(n, *shape)
        count = self.impute_candidates
        wide, fixed = x.repeat_interleave(count, 0), known.repeat_interleave(count, 0)
        label = None if condition is None else condition.repeat_interleave(count, 0)
        posterior = self._posterior(wide.view(-1, *shape), label)
        latents = reparameterize(posterior, self._noise(len(wide), options.generator))
        wide, weights = self._fill(wide, fixed, label, latents, unseen)
        weights = (weights + self._log_ratio(latents, posterior, label)).view(n, count)
        choice = draw(Categorical(logits=weights, validate_args=False), options.generator)
        chosen = wide.view(n, count, -1)[torch.arange(n, device=x.device), choice]
        return chosen.view(n, *shape)

    def _fill(
        self,
        x: Tensor,
        known: Tensor,
        condition: Tensor | None,
        latents: Latents,
        options: SamplingOptions,
    ) -> tuple[Tensor, Tensor]:
        """Draw what is not known; return it with the sum of ln p of what is, (batch,)."""
        wide = at_least_float32(self.dtype)
        x, total = x.clone(), torch.zeros(len(x), dtype=wide, device=self.device)
        decoder = self.decoder(len(x), condition, latents)
        for block in decoder.blocks:
            following = decoder.next()
            drawn = draw(following, options.generator, options.temperature).to(x.dtype)
            x[:, block] = torch.where(known[:, block], x[:, block], drawn)
            terms = following.log_prob(self._as_value(x[:, block]))
            total = total + torch.where(known[:, block], terms, 0).sum(1)
            decoder.push(x[:, block])
            options.advance(1)
        return x, total

    @torch.no_grad()
    def sample_varying(
        self,
        n: int,
        level: str,
        condition: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw n events that share the noise of every level but one, (n, *event.shape).

        The noise is standard normal for latents and uniform for pixels, whose cumulative
        distribution it inverts. The shared noise is drawn first, so that calls from the same state
        of the generator share it; `level` is one of `latent_levels`.
        """
        generation.check_number(self, n)
        require(level in self.latent_levels, "level", f"one of {self.latent_levels}", level)
        self._check_condition(condition, n)
        generation.check_generator(generator, self.device)
        generation.require_finite_weights(self)
        shared, own = self._all_noise(1, generator), self._all_noise(n, generator)
        *noise, uniform = (
            mine if name == level else ours.expand_as(mine).contiguous()
            for name, ours, mine in zip(self.latent_levels, shared, own, strict=True)
        )
        with generation.drawing(self, n):
            latents = self._from_prior(tuple(noise), condition)
            x, decoder = self._blank(n), self.decoder(n, condition, latents)
            for block in decoder.blocks:
                x[:, block] = invert(decoder.next(), uniform[:, block])
                decoder.push(x[:, block])
        return x.view(n, *self.event.extents)

    def _all_noise(self, n: int, generator: torch.Generator | None) -> Latents:
        options: dict[str, Any] = {"dtype": at_least_float32(self.dtype), "device": self.device}
        uniform = torch.rand(n, self.event.size, generator=generator, **options)
        return *self._noise(n, generator), uniform


def reparameterize(posterior: tuple[Normal, ...], noise: Latents) -> Latents:
    """Return a draw z_l = mean + sigma noise of each level, given standard normal noise."""
    return tuple(q.mean + q.stddev * e for q, e in zip(posterior, noise, strict=True))
