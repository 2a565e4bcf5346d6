"""Causal attention of an image's pixels, over whole images or pixel by pixel."""

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from arcore.layers.attention import KeyValueCache, attention, widened
from arcore.layers.convolutions import CausalConv2d, pixel_conv
from arcore.layers.cursor import ImageCursor
from arcore.primitives.orderings import CPU
from arcore.primitives.precision import product_dtype

INITIAL_STD = 0.3  # of what places add


class PixelAttention(nn.Module):
    """Attention of each pixel to the pixels before it in raster order, with a head per colour.

        y_i = sum_{j < i} a_ij v_j,  a_ij = softmax_j(q_i . k_j / sqrt(width)),

    with q from the maps h_i and the place i, and k and v from h_j, the image x_j and the place j.
    The query of a head sees maps of its colour and of earlier ones. A token of zeros precedes all.

    Arguments:
        size: height and width of the image.
        maps: the colour of each map h.
        inputs: maps of the image x.
        groups: number of colours.
        width: numbers of a head's query, key and value.
    """

    def __init__(
        self, size: tuple[int, int], maps: Tensor, inputs: int, groups: int, width: int
    ) -> None:
        super().__init__()
        self.num_maps, self.width = len(maps), width
        self.colours = torch.arange(groups, device=CPU).repeat_interleave(width)
        self.query = pixel_conv("B", maps, self.colours)
        self.key_value = CausalConv2d(len(maps) + inputs, 2 * groups * width)
        shapes = (size[0], 1), (1, size[1])
        self.rows, self.columns = (
            nn.Parameter(INITIAL_STD * torch.randn(1, 3 * groups * width, *shape))
            for shape in shapes
        )

    def tokens(self, maps: Tensor, places: Tensor) -> Tensor:
        """Split maps (batch, n heads width, h, w) into (n, batch, heads, tokens, width)."""
        shape = (-1, len(self.colours) // self.width, self.width)
        heads = (maps + places.to(maps.dtype)).flatten(2).unflatten(1, shape)
        return widened(heads.permute(1, 0, 2, 4, 3))

    def _maps(self, tokens: Tensor, like: Tensor) -> Tensor:
        shape = len(like), len(self.colours), *like.shape[2:]
        return tokens.to(like.dtype).transpose(2, 3).reshape(shape)

    def forward(self, x: Tensor) -> Tensor:
        """Map [h | x], (batch, maps + inputs, height, width), to (batch, heads width, ...)."""
        query = self.query(x[:, : self.num_maps])
        tokens = self.tokens(torch.cat([query, self.key_value(x)], 1), self.rows + self.columns)
        key, value = pad(tokens[1:], (0, 0, 1, -1))  # which moves them one pixel on
        return self._maps(attention(tokens[0], key, value, True), query)

    def step(self, x: Tensor, cursor: ImageCursor) -> Tensor:
        """Map [h | x] of the pixel at the cursor, where x is not known, to what it sees."""
        past = cursor.state(self, lambda: _Past(self, x))
        past.maps = x[:, : self.num_maps]
        query = cursor(self.query, past.maps)
        places = cursor.piece(past.places[:, : len(self.colours)])
        (key, value), tokens = past.known, self.tokens(query, places)
        return self._maps(attention(tokens[0], key, value, False), query)

    def write_cache(self, x: Tensor, cursor: ImageCursor) -> None:
        """Take in the image's features at the cursor, after `step` there."""
        past = cursor.state(self, lambda: _Past(self, x))
        maps = cursor(self.key_value, torch.cat([past.maps, x], 1))
        places = cursor.piece(past.places[:, len(self.colours) :])
        past.known = past.cache.append(self.tokens(maps, places))


class _Past:
    """Keys and values of the pixels before the cursor, and the maps of the pixel there."""

    def __init__(self, layer: PixelAttention, x: Tensor) -> None:
        self.places = layer.rows + layer.columns
        self.maps = x[:, : layer.num_maps]
        heads = len(layer.colours) // layer.width
        nothing = x.new_zeros(2, len(x), heads, 1, layer.width, dtype=product_dtype(x))
        self.cache = KeyValueCache(1 + layer.rows.shape[2] * layer.columns.shape[3])
        self.known = self.cache.append(widened(nothing))
