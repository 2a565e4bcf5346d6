"""Video Pixel Network: frame encoders, an LSTM over frames, and a PixelCNN for the next frame."""

from __future__ import annotations

import dataclasses
from typing import cast

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn.functional import relu

from arcore.decoding import Decoder
from arcore.events import Event, Gray, Levels
from arcore.families.raster import RasterConfig, RasterDecoder, TwoStackModel
from arcore.families.video import ClipConfig, ClipModel
from arcore.layers.clip_layers import multiplicative_unit
from arcore.layers.conditioning import ConditionProjection
from arcore.layers.convolutions import CausalConv2d, pixel_conv, row_conv, rows_conv
from arcore.layers.cursor import LayerCall
from arcore.primitives.activation_checkpointing import run_block


@dataclasses.dataclass(frozen=True, kw_only=True)
class VideoPixelNetworkConfig(ClipConfig):
    """Hyperparameters of a Video Pixel Network, and all of `ClipConfig`.

    Arguments:
        first_kernel: odd size of the decoder's first convolutions, over pixels.
        head: softmax (over levels; a sigmoid over two, or gray targets) or logistic_mixture.
        num_mixtures: components of a logistic mixture.
    """

    first_kernel: int = 7
    head: str = "softmax"
    num_mixtures: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        self.frame_decoder()

    def frame_decoder(self) -> FrameDecoderConfig:
        """Return the hyperparameters of the frame decoder."""
        names = {field.name for field in dataclasses.fields(FrameDecoderConfig)}
        given = {k: v for k, v in dataclasses.asdict(self).items() if k in names}
        conditions = {"num_classes": None, "condition_size": None}
        return FrameDecoderConfig(**given | conditions | {"num_blocks": self.decoder_blocks})


class VideoPixelNetwork(ClipModel):
    """A network over clips that leaves out no dependency between frames, pixels or colours.

        p(x) = prod_t prod_i p(x_{t,i,B} | x_{<t}, x_{t,<i}, x_{t,i,R}, x_{t,i,G}) ...

    An encoder of residual multiplicative blocks (`arcore.layers.clip_layers`) runs over each frame,
    a convolutional LSTM over the results, and a PixelCNN of such blocks draws the next frame given
    the LSTM's maps. It has two stacks as Gated PixelCNN does, where the paper's masks leave a blind
    spot; its first convolution leaves out the pixel itself, since units multiply by their input.
    Each unit adds a 1 x 1 projection of a condition.

    Reference:
        Kalchbrenner, van den Oord, Simonyan, Danihelka, Vinyals, Graves and Kavukcuoglu, "Video
        Pixel Networks", ICML 2017.

    Example:
        >>> import torch, arcore
        >>> event = arcore.events.Binary((4, 1, 8, 8))  # frames, channels, height, width
        >>> model = arcore.create_model("video_pixel_network", event)
        >>> model.frame_log_prob(torch.zeros(2, 4, 1, 8, 8), first=2).shape  # nats
        torch.Size([2, 2])
    """

    Config = VideoPixelNetworkConfig
    hyperparameters: VideoPixelNetworkConfig

    def __init__(self, event: Event, hyperparameters: VideoPixelNetworkConfig) -> None:
        super().__init__(event, hyperparameters)
        p = hyperparameters
        context = p.recurrent_width if self.clip[0] > 1 else 0
        self.pixels = FrameDecoder(self.frame_event, p.frame_decoder(), context, self.num_vectors)

    def _maps(self, contexts: Tensor, vectors: Tensor | None) -> Tensor | None:
        """Put what conditions a frame together, (n, recurrent_width + num_vectors, h, w)."""
        if self.clip[0] == 1:
            return vectors
        if vectors is None:
            return contexts
        return torch.cat([contexts, vectors.expand(-1, -1, *contexts.shape[-2:])], 1)

    def _decode(self, frames: Tensor, contexts: Tensor, vectors: Tensor | None) -> Distribution:
        return self.pixels.conditionals_given(frames, self._maps(contexts, vectors))

    def _frame_decoder(self, context: Tensor, vectors: Tensor | None) -> Decoder:
        return RasterDecoder(self.pixels, len(context), self._maps(context, vectors))

    @property
    def _frame_schedule(self) -> tuple[Tensor, ...]:
        return self.pixels.schedule


@dataclasses.dataclass(frozen=True, kw_only=True)
class FrameDecoderConfig(RasterConfig):
    """Hyperparameters of the PixelCNN of one frame, as `VideoPixelNetworkConfig` describes them."""

    width: int
    num_blocks: int
    first_kernel: int
    kernel: int
    head_width: int


class FrameDecoder(TwoStackModel):
    """The PixelCNN of one frame, given maps.

    With the vertical stack v, the horizontal one h, maps s and vectors a of the condition,

        v_0 = K_0 * (rows above) + V s,   h_0 = K'_0 * (pixels to the left) + L_0 v_0 + V' s,

    and residual multiplicative blocks in both, whose horizontal units have the gates

        K' * z + L (K * w) + P a

    for the units' inputs z in the horizontal and w in the vertical stack; L is 1 x 1. The maps
    given are `num_maps` channels of s, then `num_vectors` of a.
    """

    Config = FrameDecoderConfig
    supports = (Levels, Gray)
    hyperparameters: FrameDecoderConfig

    def __init__(
        self, event: Event, hyperparameters: FrameDecoderConfig, num_maps: int, num_vectors: int
    ) -> None:
        super().__init__(event, hyperparameters)
        p = hyperparameters
        self.num_maps, self.num_vectors = num_maps, num_vectors
        wide, head = self.colours(2 * p.width), self.colours(p.head_width, "head_width")
        inputs = self.input_colours
        self.vertical_input = rows_conv(len(inputs), len(wide), p.first_kernel)
        self.horizontal_input = row_conv("A", inputs, wide, p.first_kernel)
        self.link = CausalConv2d(len(wide), len(wide))
        if num_maps:
            self.vertical_context = ConditionProjection(num_maps, len(wide))
            self.horizontal_context = ConditionProjection(num_maps, len(wide))
        self.blocks = nn.ModuleList(
            _MultiplicativeBlock(self, is_last=index == p.num_blocks - 1)
            for index in range(p.num_blocks)
        )
        self.hidden_head = pixel_conv("B", wide, head)
        self.output = pixel_conv("B", head, self.colours(self.head.num_outputs))
        self.output.set_bias(self.head.initial_bias())

    def projections(self, outputs: int, units: int) -> nn.ModuleList:
        """Make the projections of the vectors, one per unit; none without vectors."""
        count = units if self.num_vectors else 0
        return nn.ModuleList(ConditionProjection(self.num_vectors, outputs) for _ in range(count))

    @property
    def first(self) -> list[CausalConv2d]:
        """The layer that reads the pixel's own row; the vertical stack reads whole rows."""
        return [self.horizontal_input]

    def _split(self, maps: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """Split maps into the maps of the context and the vectors."""
        if maps is None:
            return None, None
        context, vectors = maps.split([self.num_maps, self.num_vectors], 1)
        return context if self.num_maps else None, vectors if self.num_vectors else None

    def _vertical(self, above: Tensor, maps: Tensor | None, call: LayerCall) -> list[Tensor]:
        context, vectors = self._split(maps)
        v = call(self.vertical_input, above)
        if context is not None:
            v = v + call(self.vertical_context, context)
        links = [call(self.link, v)]
        for block in cast(list[_MultiplicativeBlock], list(self.blocks)):
            v, own = run_block(block.vertical, v, vectors, call)
            links += own
        return links

    def _horizontal(
        self, h: Tensor, links: list[Tensor], maps: Tensor | None, call: LayerCall
    ) -> Tensor:
        context, vectors = self._split(maps)
        # what a convolution returns is nobody else's: it may change in place
        h = call(self.horizontal_input, h).add_(links[0])
        if context is not None:
            h = h + call(self.horizontal_context, context)
        for index, block in enumerate(cast(list[_MultiplicativeBlock], list(self.blocks))):
            own = links[2 * index + 1 : 2 * index + 3]
            h = run_block(block.horizontal, h, vectors, own, call)
        return call(self.output, relu(call(self.hidden_head, relu(h)), inplace=True))


class _MultiplicativeBlock(nn.Module):
    """A residual multiplicative block in both stacks; the last one's vertical half feeds links."""

    def __init__(self, model: FrameDecoder, is_last: bool) -> None:
        super().__init__()
        kernel = model.hyperparameters.kernel
        narrow = model.colours(model.hyperparameters.width)
        wide, gates = model.colours(2 * len(narrow)), narrow.repeat(4)
        self.reduce_rows = CausalConv2d(len(wide), len(narrow))
        self.rows = nn.ModuleList(rows_conv(len(narrow), len(gates), kernel) for _ in range(2))
        self.row_projections = model.projections(len(gates), 1 if is_last else 2)
        self.links = nn.ModuleList(CausalConv2d(len(gates), len(gates)) for _ in range(2))
        self.expand_rows = None if is_last else CausalConv2d(len(narrow), len(wide))
        self.reduce = pixel_conv("B", wide, narrow)
        self.row = nn.ModuleList(row_conv("B", narrow, gates, kernel) for _ in range(2))
        self.projections = model.projections(len(gates), 2)
        self.expand = pixel_conv("B", narrow, wide)

    def vertical(
        self, v: Tensor, vectors: Tensor | None, call: LayerCall
    ) -> tuple[Tensor, list[Tensor]]:
        """Return the vertical maps after the block, and what it passes on to the horizontal."""
        links: list[Tensor] = []
        z = call(self.reduce_rows, v)
        for unit in range(2):
            gates = call(self.rows[unit], z)
            links.append(call(self.links[unit], gates))
            if unit == 1 and self.expand_rows is None:
                return v, links
            if vectors is not None:
                gates = gates + call(self.row_projections[unit], vectors)
            z = multiplicative_unit(z, gates)
        assert self.expand_rows is not None
        return call(self.expand_rows, z).add_(v), links

    def horizontal(
        self, h: Tensor, vectors: Tensor | None, links: list[Tensor], call: LayerCall
    ) -> Tensor:
        """Return the horizontal maps after the block."""
        z = call(self.reduce, h)
        for unit, link in enumerate(links):
            gates = call(self.row[unit], z).add_(link)
            if vectors is not None:
                gates = gates + call(self.projections[unit], vectors)
            z = multiplicative_unit(z, gates)
        return call(self.expand, z).add_(h)
