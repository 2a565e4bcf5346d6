"""The baseline of Video Pixel Networks: no dependencies between pixels of a frame, or colours."""

import dataclasses

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn.functional import relu

from arcore.decoding import Decoder
from arcore.distributions.drawing import reshape
from arcore.events import Event, Gray
from arcore.families.video import ClipConfig, ClipModel
from arcore.layers.clip_layers import ResidualMultiplicativeBlock
from arcore.layers.convolutions import Conv2d
from arcore.layers.heads import Head
from arcore.primitives.activation_checkpointing import run_block


@dataclasses.dataclass(frozen=True, kw_only=True)
class VideoPixelBaselineConfig(ClipConfig):
    """Hyperparameters of the baseline: all of `ClipConfig`."""


class VideoPixelBaseline(ClipModel):
    """A Video Pixel Network whose decoder sees earlier frames alone.

        p(x) = prod_t prod_{i,c} p(x_{t,i,c} | x_{<t})

    Its decoder of residual multiplicative blocks reads only the LSTM's maps: all pixels and colours
    of a frame are drawn at once, each by itself.

    Reference:
        Kalchbrenner et al., "Video Pixel Networks", ICML 2017, section 4.4.

    Example:
        >>> import torch, arcore
        >>> event = arcore.events.Binary((4, 1, 8, 8))
        >>> len(arcore.create_model("video_pixel_baseline", event).schedule)  # one block per frame
        4
    """

    Config = VideoPixelBaselineConfig
    hyperparameters: VideoPixelBaselineConfig

    def __init__(self, event: Event, hyperparameters: VideoPixelBaselineConfig) -> None:
        super().__init__(event, hyperparameters)
        p = hyperparameters
        gray = isinstance(event, Gray)
        self.head = Head("softmax", self.frame_event.num_levels, self.clip[1], 1, gray)
        padding = p.kernel // 2
        self.input = Conv2d(p.recurrent_width, 2 * p.width, p.kernel, padding=padding)
        self.blocks = nn.ModuleList(
            ResidualMultiplicativeBlock(p.width, p.kernel, condition_size=self.num_vectors)
            for _ in range(p.decoder_blocks)
        )
        self.hidden_head = Conv2d(2 * p.width, p.head_width, 1)
        self.output = Conv2d(p.head_width, self.head.num_outputs, 1)

    def _decode(self, frames: Tensor, contexts: Tensor, vectors: Tensor | None) -> Distribution:
        h = self.input(contexts)
        for block in self.blocks:
            h = run_block(block, h, vectors)
        outputs = self.output(relu(self.hidden_head(relu(h))))
        return self.head.distribution(outputs.to(self.dtype), frames, frames.shape)

    def _frame_decoder(self, context: Tensor, vectors: Tensor | None) -> Decoder:
        return FrameAtOnce(self, context, vectors)

    @property
    def _frame_schedule(self) -> tuple[Tensor, ...]:
        return (torch.arange(self.frame_event.size, device=self.device),)


class FrameAtOnce(Decoder):
    """Decodes a frame as one block."""

    def __init__(self, model: VideoPixelBaseline, context: Tensor, vectors: Tensor | None) -> None:
        super().__init__(model._frame_schedule, len(context))
        self.model, self.context, self.vectors = model, context, vectors

    def _next(self, block: Tensor) -> Distribution:
        frames = self.context.new_empty(len(self.context), *self.model.clip[1:])
        conditionals = self.model._decode(frames, self.context, self.vectors)
        return reshape(conditionals, (len(self.context), len(block)))

    def _push(self, block: Tensor, values: Tensor) -> None:
        """Nothing depends on a frame but the frames after it."""
