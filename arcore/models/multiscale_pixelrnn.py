"""Multi-Scale PixelRNN: a small image first, then the whole image given the small one."""

import dataclasses

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn.functional import relu

from arcore.decoding import Decoder
from arcore.events import Event, Levels, resized
from arcore.families.pixelrnn import PixelRNN
from arcore.families.raster import RasterDecoder, image_shape
from arcore.layers.conditioning import ConditionMaps
from arcore.layers.convolutions import Conv2d, ConvTranspose2d
from arcore.layers.cursor import full_image
from arcore.model import AutoregressiveModel
from arcore.models.diagonal_bilstm import DiagonalBiLSTM
from arcore.models.row_lstm import RowLSTM, RowLSTMConfig
from arcore.primitives.checks import require
from arcore.primitives.orderings import CPU, make_ordering, with_channels

CORES: dict[str, type[PixelRNN]] = {"diagonal_bilstm": DiagonalBiLSTM, "row_lstm": RowLSTM}


@dataclasses.dataclass(frozen=True, kw_only=True)
class MultiscalePixelRNNConfig(RowLSTMConfig):
    """Hyperparameters of Multi-Scale PixelRNN, and all of `RowLSTMConfig`.

    Arguments:
        core: diagonal_bilstm or row_lstm, the network of both scales.
        factor: of the small image, every factor-th pixel of every factor-th row, >= 2.
        base_hidden: hidden of the small image's network.
        base_num_layers: num_layers of the small image's network.
        kernel: of the core row_lstm.
        condition_width: maps of the network that enlarges the small image, and of that for a map
            condition.
    """

    core: str = "diagonal_bilstm"
    factor: int = 2
    base_hidden: int = 16
    base_num_layers: int = 2
    choices = {"core": tuple(CORES)}
    least = {"factor": 2}


class MultiscalePixelRNN(AutoregressiveModel):
    """PixelRNN over a small image, and one over the whole image that is conditional on it.

    With the small image x_s = x[::f, ::f], pixels of x itself (never averages),

        p(x) = p(x_s) prod_{i not in x_s} p(x_i | x_<i, x_s),

    so the likelihood is exact: pixels of x_s cost nothing where the second network meets them
    again. A convolution, a deconvolution and a convolution bring x_s to the image's size; each
    layer adds its 1 x 1 projection of the result. A condition passes to both networks.

    Reference:
        van den Oord, Kalchbrenner and Kavukcuoglu, "Pixel Recurrent Neural Networks", ICML 2016,
        section 3.6 and figure 2 (centre).

    Example:
        >>> import torch, arcore
        >>> model = arcore.create_model("multiscale_pixelrnn", arcore.events.Binary((1, 8, 8)))
        >>> model.log_prob(torch.zeros(2, 1, 8, 8)).shape  # nats
        torch.Size([2])
    """

    Config = MultiscalePixelRNNConfig
    supports = (Levels,)
    hyperparameters: MultiscalePixelRNNConfig

    def __init__(self, event: Event, hyperparameters: MultiscalePixelRNNConfig) -> None:
        super().__init__(event, hyperparameters)
        assert isinstance(event, Levels)
        p = hyperparameters
        self.image = image_shape(event)
        channels, height, width = self.image
        small = (channels, -(-height // p.factor), -(-width // p.factor))
        colours = channels if p.head == "softmax" else 1
        wanted = f"a map for each of {colours} colours"
        require(p.base_hidden >= colours, "base_hidden", wanted, p.base_hidden)
        base = dataclasses.replace(p, hidden=p.base_hidden, num_layers=p.base_num_layers)
        self.base = _core(base, resized(event, small))
        self.detail: PixelRNN | None = None
        if height * width > 1:
            self.enlarge = _Upsample(
                len(self.base.input_colours), p.condition_width, self.image[1:], p.factor
            )
            num_maps = p.condition_width
            if self.condition_kind is not None:
                size = self.image[1:]
                self.condition_maps = ConditionMaps(self.condition_kind, size, p.condition_width)
                num_maps += self.condition_maps.channels
            alone = {"num_classes": None, "condition_size": None, "condition_shape": None}
            detail = dataclasses.replace(p, **alone)  # type: ignore[arg-type]
            self.detail = _core(detail, resized(event, self.image), num_maps)

    # -- scoring

    def small(self, image: Tensor) -> Tensor:
        """Return the small image, (batch, C, ceil(H / f), ceil(W / f)), of (batch, C, H, W)."""
        f = self.hyperparameters.factor
        return image[..., ::f, ::f]

    def detail_maps(self, small: Tensor, condition: Tensor | None) -> Tensor:
        """Return the maps that condition the second network, (batch, channels, H, W)."""
        maps: Tensor = self.enlarge(self.base.encode(small))
        if condition is None:
            return maps
        others: Tensor = self.condition_maps(condition, self.dtype)
        return torch.cat([maps, others.expand(-1, -1, *maps.shape[-2:])], 1)

    def _conditionals(self, x: Tensor, condition: Tensor | None) -> Distribution:
        image = x.reshape(-1, *self.image)
        small = self.small(image)
        base = self.base
        outputs = base._network(base.encode(small), base._condition_maps(condition), full_image)
        if self.detail is not None:
            maps = self.detail_maps(small, condition)
            whole = self.detail._network(self.detail.encode(image), maps, full_image).clone()
            self.small(whole)[:] = outputs
            outputs = whole
        return base.head.distribution(outputs.to(self.dtype), image, x.shape)

    # -- generation

    @property
    def known(self) -> Tensor:
        """Which dimensions are of the small image, (D,) bool."""
        known = torch.zeros(self.image, dtype=torch.bool, device=CPU)
        self.small(known)[:] = True
        return known.flatten()

    @property
    def schedule(self) -> tuple[Tensor, ...]:
        """One block per sub-pixel: the small image in raster order, then the others."""
        order, known = make_ordering("raster", self.image), self.known
        small_first = torch.cat([order[known[order]], order[~known[order]]])
        return tuple(small_first.to(self.device).split(1))

    def _decoder(self, batch: int, condition: Tensor | None) -> Decoder:
        return TwoScaleDecoder(self, batch, condition)


class TwoScaleDecoder(Decoder):
    """Decodes the small image by the first network's decoder, the others by the second's.

    The second one is given the values of pixels of the small image.
    """

    def __init__(self, model: MultiscalePixelRNN, batch: int, condition: Tensor | None) -> None:
        super().__init__(model.schedule, batch)
        self.model, self.condition = model, condition
        self.base = model.base.decoder(batch, condition)
        self.x = model._blank(batch)
        self.known = model.known.tolist()
        self.detail: RasterDecoder | None = None
        # of the second network's decoder, by way of the host, which need not ask the device for it
        channels, *size = model.image
        self.order = with_channels(make_ordering("raster", tuple(size)), channels).tolist()

    def _next(self, block: Tensor) -> Distribution:
        return self._current().next()

    def _push(self, block: Tensor, values: Tensor) -> None:
        self._current().push(values)
        self.x[:, block] = values.to(self.x.dtype)

    def _current(self) -> Decoder:
        """Return the decoder of the network whose turn it is, at the place whose turn it is."""
        if self.position < len(self.base.blocks):
            return self.base
        if self.detail is None:
            self.detail = self._begin()
        while self.known[index := self.order[self.detail.position]]:
            self.detail.next()
            self.detail.push(self.x[:, index, None])
        return self.detail

    def _begin(self) -> RasterDecoder:
        model = self.model
        assert model.detail is not None
        small = model.small(self.x.view(-1, *model.image))
        maps = model.detail_maps(small, self.condition)
        return RasterDecoder(model.detail, len(self.x), maps)


class _Upsample(nn.Module):
    """Brings features of the small image to the image's size by a deconvolution."""

    def __init__(self, inputs: int, width: int, size: tuple[int, int], factor: int) -> None:
        super().__init__()
        self.coarse = Conv2d(inputs, width, 3, padding=1)
        kernel, rest = 2 * factor - 1, ((size[0] - 1) % factor, (size[1] - 1) % factor)
        self.deconvolution = ConvTranspose2d(
            width, width, kernel, factor, padding=factor - 1, output_padding=rest
        )
        self.fine = Conv2d(width, width, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        """Map (batch, inputs, h, w) to (batch, width, H, W)."""
        return relu(self.fine(relu(self.deconvolution(relu(self.coarse(features))))))


def _core(p: MultiscalePixelRNNConfig, event: Levels, num_maps: int = 0) -> PixelRNN:
    """Build the network of one scale."""
    core = CORES[p.core]
    names = [field.name for field in dataclasses.fields(core.Config)]
    config = core.Config(**{name: getattr(p, name) for name in names})
    return core(event, config, num_maps)  # type: ignore[arg-type]
