"""PixelVAE: latents for the layout of an image, a few autoregressive layers for its details."""

import dataclasses
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Normal
from torch.nn.functional import elu, one_hot

from arcore.decoding import Decoder
from arcore.events import Event, Levels
from arcore.families.latent import LatentVariableModel
from arcore.families.latent_sampling import Latents
from arcore.families.raster import RasterDecoder, image_shape
from arcore.hyperparameters import CheckedHyperparameters
from arcore.layers import level_features
from arcore.layers.convolutions import Conv2d
from arcore.layers.latents import Encoder, GaussianPixelCNN, gaussian
from arcore.models.gated_pixelcnn import GatedPixelCNN, GatedPixelCNNConfig
from arcore.primitives.checks import require


@dataclasses.dataclass(frozen=True, kw_only=True)
class PixelVAEConfig(CheckedHyperparameters):
    """Hyperparameters of PixelVAE.

    Arguments:
        num_levels: of latents: 1 (a vector) or 2 (a map under a vector).
        latent_size: length of the vector z, of two levels the upper one.
        latent_channels: of each location of the map z1 of two levels.
        encoder: feature maps of the encoder's stages, each of which halves the image; the map z1 of
            two levels is of the last stage's size.
        upsample: bring the latents to the image's resolution, as maps; else (one level alone) each
            gate takes a projection of the vector, the same everywhere.
        condition_width: maps of the upsampled latents.
        prior_width: feature maps of p(z1 | z2).
        prior_blocks: residual blocks of p(z1 | z2).
        warmup_steps: training steps over which the weight of the KLs rises linearly to 1.
        top_warmup_steps: over which that of the upper of two levels does, 0 for as many.
        free_nats: of each level of latents, from the top; () for none. An event's KL has no
            gradient below it (see `arcore.families.latent`).
        width: p, maps of a layer of p(x | z), a Gated PixelCNN.
        num_layers: its gated layers, the first included.
        first_kernel: size of its first layer's kernels, odd.
        kernel: size of its other layers' kernels, odd.
        head_width: maps of its head's hidden layer.
        dropout: probability of dropping a gated value of its horizontal stack in training.
        head: softmax or logistic_mixture, as of `RasterConfig`.
        num_mixtures: components of a logistic mixture.
        inputs: how levels enter the network, as of `RasterConfig`.
        num_classes: classes of an optional condition.
    """

    num_levels: int = 1
    latent_size: int = 16
    latent_channels: int = 4
    encoder: tuple[int, ...] = (16, 32)
    upsample: bool = True
    condition_width: int = 16
    prior_width: int = 32
    prior_blocks: int = 2
    warmup_steps: int = 0
    top_warmup_steps: int = 0
    free_nats: tuple[float, ...] = ()
    width: int = 16
    num_layers: int = 3
    first_kernel: int = 5
    kernel: int = 3
    head_width: int = 32
    dropout: float = 0.0
    head: str = "softmax"
    num_mixtures: int = 5
    inputs: str = "scaled"
    num_classes: int | None = None
    least = {"prior_blocks": 0, "warmup_steps": 0, "top_warmup_steps": 0}

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.num_levels in (1, 2), "num_levels", "1 or 2", self.num_levels)
        fits = self.num_levels == 2 or not self.top_warmup_steps
        require(fits, "top_warmup_steps", "0 for one level", self.top_warmup_steps)
        _require_free_nats(self.free_nats, self.num_levels)
        fits = self.upsample or self.num_levels == 1
        require(fits, "upsample", "true for two levels, whose z1 is a map", self.upsample)
        self.pixels()

    def pixels(self, **condition: Any) -> GatedPixelCNNConfig:
        """Return the hyperparameters of p(x | z), which checks its own."""
        shared = {field.name for field in dataclasses.fields(GatedPixelCNNConfig)}
        given = {name: getattr(self, name) for name in shared if hasattr(self, name)}
        return GatedPixelCNNConfig(**{**given, "num_classes": None, **condition})


def _require_free_nats(given: object, num_levels: int) -> None:
    fits = isinstance(given, tuple) and len(given) in (0, num_levels)
    fits = fits and all(isinstance(n, (int, float)) and 0 <= n < math.inf for n in given)  # type: ignore[attr-defined]
    require(fits, "free_nats", f"[] or {num_levels} numbers >= 0, from the top", given)


class PixelVAE(LatentVariableModel):
    """Variational autoencoder whose decoder p(x | z) is a Gated PixelCNN of few layers.

        p(x) = int p(x | z) p(z) dz,  z ~ N(0, I),                             one level,
        p(x) = int p(x | z1) p(z1 | z2) p(z2) dz1 dz2,  z2 ~ N(0, I),          two levels,

    where z and z2 are vectors, and p(z1 | z2) is autoregressive over the locations of a map (see
    `GaussianPixelCNN`). The latents enter every gate of the decoder, as a vector or as maps that a
    linear layer and an upsampling bring to the image's resolution (a deep network in the paper,
    which concatenates them with the maps of x). Posteriors are diagonal Gaussians, q(z | x) or
    q(z1 | h) q(z2 | h), read from the same features h of x, without bounds on their means. Latents
    come as tuples in the order in which they are drawn: (z,) or (z2, z1).

    Reference:
        Gulrajani, Kumar, Ahmed, Taiga, Visin, Vazquez and Courville, "PixelVAE: A Latent Variable
        Model for Natural Images", ICLR 2017.

    Example:
        >>> import torch, arcore
        >>> model = arcore.create_model("pixelvae", arcore.events.Binary((1, 8, 8)))
        >>> x = model.sample(2)
        >>> model.elbo(x).shape, model.importance_weighted(x, 10).shape  # nats
        (torch.Size([2]), torch.Size([2]))
    """

    Config = PixelVAEConfig
    supports = (Levels,)
    hyperparameters: PixelVAEConfig

    def __init__(self, event: Event, hyperparameters: PixelVAEConfig) -> None:
        p, classes = hyperparameters, hyperparameters.num_classes or 0
        warmup_steps = [p.top_warmup_steps or p.warmup_steps, p.warmup_steps][-p.num_levels :]
        super().__init__(event, p, warmup_steps, p.free_nats)
        self.image = image_shape(event)
        features = self.image[0] * level_features.num_features(event, p.inputs)
        self.encoder = Encoder(features + classes, self.image[1:], p.encoder)
        channels, size = self.encoder.channels, self.encoder.size
        condition: dict[str, Any] = {"condition_shape": (channels + classes, *size)}
        if p.num_levels == 1:
            self.latent_levels = ("latent", "pixels")
            self.latent_shapes = ((p.latent_size,),)
            self.infer = nn.Linear(channels * math.prod(size), 2 * p.latent_size)
            if p.upsample:
                self.expand = nn.Linear(p.latent_size, channels * math.prod(size))
            else:
                condition = {"condition_size": p.latent_size + classes}
        else:
            self.latent_levels = ("top", "latent", "pixels")
            self.latent_shapes = ((p.latent_size,), (p.latent_channels, *size))
            self.infer_map = Conv2d(channels, 2 * p.latent_channels, 1)
            self.top = Encoder(channels, size, (channels,))
            self.infer = nn.Linear(channels * math.prod(self.top.size), 2 * p.latent_size)
            self.map_prior = GaussianPixelCNN(
                p.latent_channels, size, p.latent_size + classes, p.prior_width, p.prior_blocks
            )
            condition = {"condition_shape": (p.latent_channels + classes, *size)}
        self.pixels = GatedPixelCNN(event, p.pixels(**condition))

    @property
    def _width(self) -> int:
        p, pixels = self.hyperparameters, self.pixels
        widest = max(2 * p.width, p.head_width, pixels.head.num_outputs, len(pixels.input_colours))
        return widest * math.prod(self.image[1:])

    def _with_class(self, x: Tensor, condition: Tensor | None) -> Tensor:
        """Append a class's indicator to the channels of (batch, channels, ...)."""
        if condition is None:
            return x
        assert self.num_classes is not None
        label = one_hot(condition, self.num_classes).to(x.dtype)
        label = label.view(*label.shape, *[1] * (x.dim() - 2)).expand(-1, -1, *x.shape[2:])
        return torch.cat([x, label], 1)

    # -- latents

    def _posterior(self, x: Tensor, condition: Tensor | None) -> tuple[Normal, ...]:
        image = self.pixels.encode(x.reshape(-1, *self.image))
        h = self.encoder(self._with_class(image, condition))
        if self.hyperparameters.num_levels == 1:
            return (gaussian(self.infer(h.flatten(1)).to(self.dtype)),)
        top = self.infer(self.top(h).flatten(1))
        return gaussian(top.to(self.dtype)), gaussian(self.infer_map(h).to(self.dtype))

    def _prior(self, latents: Latents, condition: Tensor | None) -> tuple[Normal, ...]:
        zeros = torch.zeros_like(latents[0])
        top = Normal(zeros, zeros + 1, validate_args=False)
        if self.hyperparameters.num_levels == 1:
            return (top,)
        return top, self.map_prior(latents[1], self._with_class(latents[0], condition))

    def _from_prior(self, noise: Latents, condition: Tensor | None) -> Latents:
        if self.hyperparameters.num_levels == 1:
            return noise
        top = noise[0]
        return top, self.map_prior.transform(noise[1], self._with_class(top, condition))

    # -- pixels

    def _maps(self, latents: Latents, condition: Tensor | None) -> Tensor:
        """What the latents show to the gates of p(x | z)."""
        z, p = latents[-1], self.hyperparameters
        if p.num_levels == 1 and p.upsample:
            z = elu(self.expand(z)).view(-1, self.encoder.channels, *self.encoder.size)
        return self.pixels.condition_maps(self._with_class(z, condition), self.dtype)

    def _conditionals_given(
        self, x: Tensor, latents: Latents, condition: Tensor | None
    ) -> Distribution:
        return self.pixels.conditionals_given(x, self._maps(latents, condition))

    @property
    def schedule(self) -> tuple[Tensor, ...]:
        """One block per sub-pixel, in raster order, once the latents are drawn."""
        return self.pixels.schedule

    def _decoder_given(self, batch: int, latents: Latents, condition: Tensor | None) -> Decoder:
        return RasterDecoder(self.pixels, batch, self._maps(latents, condition))
