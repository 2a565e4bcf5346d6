"""Row LSTM: a PixelRNN that goes down the image row by row."""

import dataclasses

from torch import Tensor, nn

from arcore.families.pixelrnn import PixelRNN, PixelRNNConfig
from arcore.layers.convolutions import CausalConv2d, row_conv
from arcore.layers.image_lstms import RowLSTMLayer


@dataclasses.dataclass(frozen=True, kw_only=True)
class RowLSTMConfig(PixelRNNConfig):
    """Hyperparameters of Row LSTM, and all of `PixelRNNConfig`.

    Arguments:
        kernel: size of the convolutions along the row, from inputs and from states, odd.
    """

    kernel: int = 3


class RowLSTM(PixelRNN):
    """Recurrent network over images whose LSTMs compute a row at once from the row above.

    A layer is `arcore.layers.image_lstms.RowLSTMLayer`, the network around it
    `arcore.families.pixelrnn`'s; the input-to-state part is a masked convolution along the row. The
    context above a pixel is a triangle, kernel // 2 pixels wider with each row (`diagonal_bilstm`
    sees all).

    Reference:
        van den Oord, Kalchbrenner and Kavukcuoglu, "Pixel Recurrent Neural Networks", ICML 2016,
        sections 3.1, 3.3 and 3.4, eq. 3 and table 1.

    Example:
        >>> import torch, arcore
        >>> model = arcore.create_model("row_lstm", arcore.events.Binary((1, 8, 8)))
        >>> model.log_prob(torch.zeros(2, 1, 8, 8)).shape  # nats
        torch.Size([2])
    """

    Config = RowLSTMConfig
    hyperparameters: RowLSTMConfig

    def _lstm(self, index: int, wide: Tensor, gates: Tensor) -> tuple[CausalConv2d, nn.Module]:
        p = self.hyperparameters
        return row_conv("B", wide, gates, p.kernel), RowLSTMLayer(p.hidden, self.image[2], p.kernel)
