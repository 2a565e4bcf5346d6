"""Gaussian latents over images: how they are inferred, and an autoregressive prior over a map."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Normal
from torch.nn.functional import elu, softsign

from arcore.layers.convolutions import Conv2d, conv2d_nhwc, pixel_conv
from arcore.layers.cursor import ImageCursor, LayerCall, full_image
from arcore.primitives.masks import channel_groups

MIN_SCALE = 1e-4


def gaussian(parameters: Tensor, bound: float | None = None) -> Normal:
    """Turn maps (batch, 2 c, ...) into c Gaussians: standard normal ones where the maps are zero.

    sigma = 1 + softsign(s) lies in (0, 2): neither end can be reached by a step too long. It is
    twice the reference code's (softsign(s) + 1) / 2, so that zero is the prior and costs nothing.

    Reference:
        Gulrajani et al., "PixelVAE", ICLR 2017; the bounds are those of the authors' code.
    """
    mean, scale = parameters.chunk(2, 1)
    if bound is not None:
        mean = bound * softsign(mean / bound)
    return Normal(mean, (1 + softsign(scale)).clamp(min=MIN_SCALE), validate_args=False)


class Halving(Conv2d):
    """A 3 x 3 convolution in steps of 2, which halves a map, rounded up."""

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__(inputs, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, inputs, height, width) to (batch, channels, height / 2, width / 2).

        oneDNN's bfloat16 gradient of a stride over a single pixel leaves taps that meet padding
        alone unwritten; there no stride is needed.
        """
        stride = [1 if extent == 1 else 2 for extent in x.shape[2:]]
        return conv2d_nhwc(x, self.weight, self.bias, stride=stride, padding=1)


class Encoder(nn.Module):
    """Convolutions that halve an image with each stage: 3 x 3, then 3 x 3 in steps of 2."""

    def __init__(self, inputs: int, size: tuple[int, int], stages: Sequence[int]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for channels in stages:
            layers += [Conv2d(inputs, channels, 3, padding=1), Halving(channels, channels)]
            inputs, size = channels, ((size[0] + 1) // 2, (size[1] + 1) // 2)
        self.layers = nn.ModuleList(layers)
        self.channels, self.size = inputs, size

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, inputs, height, width) to (batch, channels, *size)."""
        for layer in self.layers:
            x = elu(layer(x))
        return x


class GaussianPixelCNN(nn.Module):
    """A PixelCNN over a latent map: all channels of a location at once, Gaussian, given z2.

        s = elu(V z2),  u = conv_A(z) + s,  u <- u + W elu(conv_B(elu(u)) + s),
        z[r, c] ~ N(m, sigma^2) with parameters W_o elu(u)[r, c],

    where a convolution sees the rows above and the locations to the left, and B the location
    itself too, so that a stack of them has PixelCNN's blind spot and reaches a location further up
    with each. Means lie in (-2, 2) and scales in (0, 2).
    """

    def __init__(
        self, channels: int, size: tuple[int, int], condition_size: int, width: int, num_blocks: int
    ) -> None:
        super().__init__()
        self.channels, self.size, self.width = channels, size, width
        # one group: no channel of a location precedes another
        z, u = channel_groups(channels, 1), channel_groups(width, 1)
        self.expand = nn.Linear(condition_size, width * size[0] * size[1])
        self.input = pixel_conv("A", z, u, 5)
        self.cores = nn.ModuleList(pixel_conv("B", u, u, 3) for _ in range(num_blocks))
        self.mixes = nn.ModuleList(pixel_conv("B", u, u) for _ in range(num_blocks))
        self.output = pixel_conv("B", u, z.repeat(2))

    def _network(self, z: Tensor, maps: Tensor, call: LayerCall) -> Tensor:
        u = call(self.input, z) + maps
        for core, mix in zip(self.cores, self.mixes, strict=True):
            u = u + call(mix, elu(call(core, elu(u)) + maps))
        return call(self.output, elu(u))

    def _maps(self, condition: Tensor) -> Tensor:
        return elu(self.expand(condition)).view(-1, self.width, *self.size)

    def forward(self, z: Tensor, condition: Tensor) -> Normal:
        """Return p(z | condition) at all locations at once, teacher-forced, like z."""
        outputs = self._network(z, self._maps(condition), full_image)
        return gaussian(outputs.to(z.dtype), bound=2.0)

    @torch.no_grad()
    def transform(self, noise: Tensor, condition: Tensor) -> Tensor:
        """Turn standard normal noise into z by location: z = m(z_<) + sigma(z_<) noise."""
        z, maps = torch.zeros_like(noise), self._maps(condition)
        cursor = ImageCursor(*self.size)
        for row in range(self.size[0]):
            for column in range(self.size[1]):
                cursor.at(row, column)
                outputs = self._network(cursor.piece(z), cursor.piece(maps), cursor)
                here = gaussian(outputs.to(z.dtype), bound=2.0)
                value = here.mean + here.stddev * cursor.piece(noise)
                z[:, :, row : row + 1, column : column + 1] = value
                self.input.write_cache(value, cursor)
        return z
