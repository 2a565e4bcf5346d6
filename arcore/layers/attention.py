"""Causal self-attention, over a whole sequence or token by token."""

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from arcore.primitives.dropout import dropout
from arcore.primitives.precision import at_least_float32, without_autocast


def attention(
    query: Tensor, key: Tensor, value: Tensor, is_causal: bool, mask: Tensor | None = None
) -> Tensor:
    """Return softmax(query key^T / sqrt(width)) value of tokens (batch, heads, tokens, width)."""
    with without_autocast(query.device):
        return scaled_dot_product_attention(query, key, value, mask, is_causal=is_causal)


def widened(heads: Tensor) -> Tensor:
    """Return heads in the type to attend in."""
    # a CPU's kernels take a third of the time in float32, backward above all
    return heads.to(at_least_float32(heads.dtype)) if heads.device.type == "cpu" else heads


class KeyValueCache:
    """The keys and values of a layer for the tokens so far, of at most `most` tokens."""

    kept: Tensor

    def __init__(self, most: int) -> None:
        self.most, self.length = most, 0

    def append(self, new: Tensor) -> Tensor:
        """Take in further tokens, (2, batch, heads, tokens, width); return all so far."""
        first, self.length = self.length, self.length + new.shape[3]
        if torch.is_grad_enabled():  # a backward pass may want what is there
            self.kept = new if first == 0 else torch.cat([self.kept[:, :, :, :first], new], 3)
            return self.kept
        if not first:
            self.kept = new.new_empty(*new.shape[:3], self.most, new.shape[-1])
        self.kept[:, :, :, first : self.length] = new
        return self.kept[:, :, :, : self.length]


class TransformerBlock(nn.Module):
    """A pre-norm block of tokens: h + W attention(norm(h)), then h + V gelu(U norm(h)).

    `rate` is the probability of dropping a number that a branch adds, in training.
    """

    def __init__(self, width: int, num_heads: int, rate: float = 0.0) -> None:
        super().__init__()
        self.num_heads, self.rate = num_heads, rate
        self.first_norm, self.second_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.project = nn.Linear(width, 3 * width)
        self.merge = nn.Linear(width, width)
        self.expand = nn.Linear(width, 4 * width)
        self.contract = nn.Linear(4 * width, width)

    def forward(
        self, h: Tensor, cache: KeyValueCache | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """Map tokens (batch, tokens, width); with a cache they follow the tokens that it holds.

        Several tokens at once may only be the first of a cache, unless a mask (tokens, all tokens)
        says which ones each of them sees.
        """
        heads = self.project(self.first_norm(h)).unflatten(-1, (3, self.num_heads, -1))
        query, *new = widened(heads).permute(2, 0, 3, 1, 4)
        key, value = new if cache is None else cache.append(torch.stack(new))
        seen = attention(query, key, value, mask is None and h.shape[1] > 1, mask)
        merged = self.merge(seen.to(heads.dtype).transpose(1, 2).flatten(2))
        h = h + dropout(merged, self.rate, self.training)
        hidden = gelu(self.expand(self.second_norm(h)))
        return h + dropout(self.contract(hidden), self.rate, self.training)
