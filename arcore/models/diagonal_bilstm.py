"""Diagonal BiLSTM: a PixelRNN that sweeps the image along its diagonals, from both sides."""

import dataclasses
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad

from arcore.families.pixelrnn import PixelRNN, PixelRNNConfig
from arcore.layers.convolutions import CausalConv2d, pixel_conv
from arcore.layers.cursor import ImageCursor
from arcore.layers.image_lstms import DiagonalLSTMLayer, num_directions
from arcore.primitives.masks import causal_kernel_mask


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiagonalBiLSTMConfig(PixelRNNConfig):
    """Hyperparameters of Diagonal BiLSTM: all of `PixelRNNConfig`."""


class DiagonalBiLSTM(PixelRNN):
    """Recurrent network over images whose LSTMs see everything above and to the left.

    A layer is `arcore.layers.image_lstms.DiagonalLSTMLayer`, the network around it
    `arcore.families.pixelrnn`'s; the input-to-state part is 1 x 1. The masks hide a pixel from the
    first layer's input at that pixel. Being a row behind, the first layer's second LSTM may see it,
    and here it does, by one more 1 x 1 input: no pixel above is out of sight.

    Reference:
        van den Oord, Kalchbrenner and Kavukcuoglu, "Pixel Recurrent Neural Networks", ICML 2016,
        sections 3.2 to 3.4, eq. 3, figure 3 and table 1 (which lack this input).

    Example:
        >>> import torch, arcore
        >>> model = arcore.create_model("diagonal_bilstm", arcore.events.Binary((1, 8, 8)))
        >>> model.log_prob(torch.zeros(2, 1, 8, 8)).shape  # nats
        torch.Size([2])
    """

    Config = DiagonalBiLSTMConfig
    hyperparameters: DiagonalBiLSTMConfig

    def _lstm(self, index: int, wide: Tensor, gates: Tensor) -> tuple[CausalConv2d, nn.Module]:
        size = self.image[1:]
        gates = gates.repeat(num_directions(size))
        is_first = index == 0 and num_directions(size) == 2
        conv = _FirstInput(wide, gates, len(self.input_colours)) if is_first else None
        lstm = DiagonalLSTMLayer(self.hyperparameters.hidden, size)
        return conv or pixel_conv("B", wide, gates), lstm

    def _layer_input(self, index: int, u: Tensor, features: Tensor) -> Tensor:
        if not isinstance(self._layers()[index].input, _FirstInput):
            return u
        parts = [part.to(u.dtype).movedim(1, -1) for part in (u, features)]
        return torch.cat(parts, -1).movedim(-1, 1)

    def _network_at(self, features: Tensor, maps: Tensor | None, cursor: ImageCursor) -> Tensor:
        if cursor.enters_row(self) and cursor.row > 0:
            first = self._layers()[0]
            above = features[:, :, cursor.row - 1 : cursor.row]
            seen = cast(_FirstInput, first.input).of_pixels(above)
            cast(DiagonalLSTMLayer, first.lstm).add_above(seen, cursor)
        return super()._network_at(features, maps, cursor)


class _FirstInput(CausalConv2d):
    """The first layer's 1 x 1 input-to-state part: of maps, and of pixels for the second LSTM."""

    def __init__(self, wide: Tensor, gates: Tensor, pixels: int) -> None:
        def mask() -> Tensor:
            whole = pad(causal_kernel_mask("B", (1, 1), 0, gates, wide), (0, 0, 0, 0, 0, pixels))
            whole[len(gates) // 2 :, len(wide) :] = True
            return whole

        super().__init__(len(wide) + pixels, len(gates), mask=mask)
        self.num_maps = len(wide)

    def step(self, x: Tensor, cursor: ImageCursor) -> Tensor:
        """Map a pixel, whose own features count once its row is complete."""
        hidden = torch.zeros_like(x[:, self.num_maps :])
        return super().step(torch.cat([x[:, : self.num_maps], hidden], 1), cursor)

    def of_pixels(self, features: Tensor) -> Tensor:
        """Return what features of finished pixels give to the second LSTM, (batch, 4 h, ...)."""
        weight = self.masked_weight()
        return conv2d(features, weight[len(weight) // 2 :, self.num_maps :])
