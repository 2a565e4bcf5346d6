"""Output heads of image models: what a network's maps say about each sub-pixel."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Distribution

from arcore.distributions.discrete import GrayBernoulli
from arcore.distributions.discretized_logistic import DiscretizedLogisticMixture
from arcore.layers import level_features
from arcore.primitives.checks import require, require_one_of
from arcore.primitives.precision import at_least_float32

PREDICTED_SPREAD = 0.1  # what is left of a level after a linear prediction is as much narrower


@dataclass(frozen=True)
class Head:
    """A softmax over levels (a sigmoid over two), or a mixture of discretised logistics.

    The softmax needs a network whose maps are shared out among colours, so that the logits of a
    colour see the pixel's earlier colours. The mixture takes one look at the pixel: a colour's
    means move linearly with the true earlier colours, and since a pixel's colours share the
    mixture's component, its weights are the component's posterior given those colours.

    Reference:
        Salimans, Karpathy, Chen and Kingma, "PixelCNN++", ICLR 2017, eq. 2 and 3.

    Arguments:
        colours: channels C of the image.
        gray: levels are targets of Bernoulli conditionals, see `arcore.events.Gray`.
        spread: half the range of levels in [-1, 1] over which a mixture starts;
            `PREDICTED_SPREAD` where its means are relative to a prediction.
    """

    name: str
    num_levels: int
    colours: int
    num_mixtures: int
    gray: bool = False
    spread: float = 1.0

    def __post_init__(self) -> None:
        fits = not self.gray or self.name == "softmax"
        require(fits, "head", "softmax for gray targets", self.name)
        require_one_of(self.name, "head for levels", ("softmax", "logistic_mixture"))

    @property
    def groups(self) -> int:
        """Into how many groups of colours the network's maps must be shared out."""
        return self.colours if self.name == "softmax" else 1

    @property
    def num_outputs(self) -> int:
        """Maps that the network must give."""
        if self.name == "softmax":
            return self.colours * (1 if self.num_levels == 2 or self.gray else self.num_levels)
        return self.num_mixtures * (1 + 2 * self.colours + self._pairs)

    @property
    def _pairs(self) -> int:
        return self.colours * (self.colours - 1) // 2

    def initial_bias(self) -> Tensor:
        """Return the output bias to start from, (num_outputs,)."""
        bias = torch.zeros(self.num_outputs)
        if self.name == "logistic_mixture":
            k, c = self.num_mixtures, self.colours
            if k > 1:
                bias[k : k + c * k] = torch.linspace(-self.spread, self.spread, k).repeat(c)
            bias[k + c * k : k + 2 * c * k] = math.log(1 / k)
        return bias

    def move_means(self, outputs: Tensor, by: Tensor) -> Tensor:
        """Move the means of a logistic mixture, in place."""
        count = self.colours * self.num_mixtures
        means = outputs.narrow(1, self.num_mixtures, count)
        means.unflatten(1, (self.colours, self.num_mixtures)).add_(by[:, :, None])
        return outputs

    def distribution(self, outputs: Tensor, image: Tensor, shape: Sequence[int]) -> Distribution:
        """Turn maps into conditionals."""
        if self.name == "softmax":
            logits = outputs.unflatten(1, (self.colours, -1)).movedim(2, -1)
            return self.softmax(logits.reshape(*shape, logits.shape[-1]))
        parts = self._mixtures(outputs, image, self.colours)
        k = self.num_mixtures
        stacked = (torch.stack(part, 1).reshape(*shape, k) for part in zip(*parts, strict=True))
        return DiscretizedLogisticMixture(self.num_levels, *stacked)

    def colour_distribution(self, outputs: Tensor, image: Tensor, colour: int) -> Distribution:
        """Turn maps into the conditionals of one colour alone, (batch, height * width)."""
        if self.name == "softmax":
            logits = outputs.unflatten(1, (self.colours, -1))[:, colour]
            return self.softmax(logits.flatten(2).movedim(1, -1))
        parts = self._mixtures(outputs, image, colour + 1)[-1]
        return DiscretizedLogisticMixture(self.num_levels, *(part.flatten(1, 2) for part in parts))

    def softmax(self, logits: Tensor) -> Distribution:
        """Turn logits (*shape, k) into conditionals (*shape); k is 1 for two levels, or gray."""
        if self.gray:
            wide = logits[..., 0].to(at_least_float32(logits.dtype))
            return GrayBernoulli(logits=wide, validate_args=False)
        return level_features.distribution(logits)

    def _mixtures(self, outputs: Tensor, image: Tensor, count: int) -> list[tuple[Tensor, ...]]:
        """Return weights, means and log-scales, (batch, height, width, K), of the first colours."""
        k, colours = self.num_mixtures, self.colours
        outputs = outputs.to(at_least_float32(outputs.dtype))
        parts = outputs.movedim(1, -1).unflatten(-1, (-1, k)).movedim(-2, 0)
        weights, means, log_scales, coefficients = parts.split([1, colours, colours, self._pairs])
        y = image.to(outputs.dtype) * (2 / (self.num_levels - 1)) - 1
        posterior, pair = weights[0], 0
        found: list[tuple[Tensor, ...]] = []
        for colour in range(count):
            mean = means[colour]
            for earlier in range(colour):
                mean = mean + torch.tanh(coefficients[pair]) * y[:, earlier, ..., None]
                pair += 1
            one = DiscretizedLogisticMixture(self.num_levels, posterior, mean, log_scales[colour])
            found.append((one.log_weights, one.means, one.log_scales))
            if colour < count - 1:
                posterior = one.log_weights + one.components_log_prob(image[:, colour])
        return found
