"""Convolutions whose masks follow an S-curve, so that one network serves several orders.

An S-curve reads an image row by row, to the right in even rows and to the left in odd ones. Seven
more are its images under the symmetries of a square. A network of an order works on the image
transformed so that its order becomes the first one, with its kernels transformed alike.
"""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from arcore.layers.convolutions import CausalConv2d, conv2d_nhwc
from arcore.primitives.masks import causal_kernel_mask
from arcore.primitives.orderings import transformed


class LocalConv2d(CausalConv2d):
    """A locally masked size x size convolution: y_i = b + sum_k W_k m_ik x_{i+k}.

    m_ik = 1 where pixel i + k precedes i in the S-curve, and by colour at the centre (see
    `causal_kernel_mask`). It depends on the parity of the row alone, so that two convolutions of
    every other row do. W has the same weight for a neighbour in whatever order.

    Reference:
        Jain, Abbeel and Pathak, "Locally Masked Convolution for Autoregressive Models", UAI 2020.
    """

    def __init__(self, kind: str, inputs: Tensor, outputs: Tensor, size: int) -> None:
        shape, centre = ((size + 1) // 2, size), (size - 1) // 2
        mask = partial(causal_kernel_mask, kind, shape, centre, outputs, inputs)
        super().__init__(len(inputs), len(outputs), shape, centre, mask)
        self.weight = nn.Parameter(self.weight.new_empty(len(outputs), len(inputs), size, size))
        self.reset_parameters()

    def row_weights(self, symmetry: str) -> list[Tensor]:
        """Return the masked weights of even rows and of odd ones, of the transformed image."""
        weight = transformed(self.weight, symmetry)[:, :, : self.size[0]]
        assert self.mask is not None
        return [weight * self.mask, weight * self.mask.flip(-1)]

    def forward(self, x: Tensor, symmetry: str = "identity") -> Tensor:
        """Map (batch, inputs, height, width) to (batch, outputs, ...), of transformed images."""
        weights, height = self.row_weights(symmetry), x.shape[2]
        x = pad(x, (*self.padding[:3], height % 2))
        rows = [
            conv2d_nhwc(x[:, :, first:], weight, self.bias, stride=(2, 1)).permute(0, 2, 3, 1)
            for first, weight in enumerate(weights)
        ]
        return torch.stack(rows, 2).flatten(1, 2)[:, :height].permute(0, 3, 1, 2)


def along_curve(symmetry: str, layer: nn.Module, x: Tensor) -> Tensor:
    """Evaluate a layer over whole images, transformed for an order (see `LayerCall`)."""
    return layer(x, symmetry) if isinstance(layer, LocalConv2d) else layer(x)
