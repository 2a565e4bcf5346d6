"""The output head of image models over reals: mixtures of conditional Gaussian scale mixtures."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from arcore.distributions.real_mixture import RealMixture
from arcore.events import Real
from arcore.layers.level_features import centred
from arcore.primitives.precision import at_least_float32, without_autocast

NUM_SCALES = 4  # of each component, as the paper has them
MIN_LOG_SCALE = -7.0


class MCGSM(nn.Module):
    """A factorised mixture of conditional Gaussian scale mixtures, with precisions that are shared.

    The network gives for each colour K means a_k, K gates w_k and K features b_n, linear in its
    maps z; to them come linear terms in the true earlier colours of the pixel. With x in [-1, 1],

        p(x | z) = sum_{k,s} p(k, s | z) N(x; a_k, exp(-alpha_ks)),
        p(k, s | z) ~ exp(eta_ks + w_k - 1/2 exp(alpha_ks) sum_n beta_kn^2 b_n^2),

    over components k and their scales s; eta, alpha and beta are learned for each colour. The scale
    of a Gaussian never falls below exp(-7), one bin of 8 bits being exp(-5.5) wide.

    Reference:
        Theis and Bethge, "Generative Image Modeling Using Spatial LSTMs", NIPS 2015, section 2.2.

    Arguments:
        event: reals; those with a bin width lie in [0, 1), others are taken as they are.
        colours: channels C of the image.
        num_mixtures: components K, and as many features.
        spread: half the range over which means start.
    """

    name = "mcgsm"
    groups = 1  # into how many groups of colours the network's maps must be shared out

    def __init__(self, event: Real, colours: int, num_mixtures: int, spread: float) -> None:
        super().__init__()
        k = num_mixtures
        self.event, self.colours, self.num_mixtures, self.spread = event, colours, k, spread
        wide = torch.linspace(0.5, -1.5, NUM_SCALES) + math.log(spread / k)
        self.eta = nn.Parameter(torch.zeros(colours, k, NUM_SCALES))
        self.alpha = nn.Parameter(-2 * wide.expand(colours, k, NUM_SCALES).clone())
        self.beta = nn.Parameter(torch.full((colours, k, k), 0.5))
        self.earlier = nn.ParameterList(torch.zeros(c, 3 * k) for c in range(1, colours))

    @property
    def num_outputs(self) -> int:
        """Maps that the network must give."""
        return self.colours * 3 * self.num_mixtures

    def initial_bias(self) -> Tensor:
        """Return the output bias to start from, (num_outputs,)."""
        bias = torch.zeros(self.colours, 3, self.num_mixtures)
        if self.num_mixtures > 1:
            bias[:, 0] = torch.linspace(-self.spread, self.spread, self.num_mixtures)
        return bias.flatten()

    def move_means(self, outputs: Tensor, by: Tensor) -> Tensor:
        """Move the means, in place."""
        outputs.unflatten(1, (self.colours, 3, -1))[:, :, 0].add_(by[:, :, None])
        return outputs

    def distribution(self, outputs: Tensor, image: Tensor, shape: Sequence[int]) -> Distribution:
        """Turn maps into conditionals."""
        parts = [self._mixture(outputs, image, colour) for colour in range(self.colours)]
        stacked = (torch.stack(part, 1) for part in zip(*parts, strict=True))
        return self._conditionals([part.reshape(*shape, part.shape[-1]) for part in stacked])

    def colour_distribution(self, outputs: Tensor, image: Tensor, colour: int) -> Distribution:
        """Turn maps into the conditionals of one colour alone, (batch, height * width)."""
        return self._conditionals(
            [part.flatten(1, 2) for part in self._mixture(outputs, image, colour)]
        )

    def _conditionals(self, parts: list[Tensor]) -> Distribution:
        weights, means, log_scales = parts
        return RealMixture("gaussian", weights, means, log_scales, MIN_LOG_SCALE)

    def _mixture(self, outputs: Tensor, image: Tensor, colour: int) -> tuple[Tensor, ...]:
        """Return weights, means and log-scales, (batch, height, width, K * scales), of a colour."""
        given = outputs.unflatten(1, (self.colours, -1))[:, colour].movedim(1, -1)
        given = given.to(at_least_float32(given.dtype))
        with without_autocast(outputs.device):
            return self._parts(given, image, colour)

    def _parts(self, given: Tensor, image: Tensor, colour: int) -> tuple[Tensor, ...]:
        if colour:
            y = centred(image[:, :colour].to(given.dtype), self.event).movedim(1, -1)
            given = given + y @ self.earlier[colour - 1].to(given.dtype)
        means, gates, features = given.chunk(3, -1)
        alpha = self.alpha[colour].to(given.dtype).clamp(max=-2 * MIN_LOG_SCALE)
        energies = features.square() @ self.beta[colour].to(given.dtype).square().t()
        weights = self.eta[colour] + gates[..., None] - alpha.exp() * energies[..., None] / 2
        shape = weights.shape
        log_scales = (-alpha / 2).expand(shape)
        means = means[..., None].expand(shape)
        if self.event.bin_width is not None:  # back from [-1, 1]
            means, log_scales = (means + 1) / 2, log_scales - math.log(2)
        return tuple(part.flatten(-2) for part in (weights, means, log_scales))
