"""The hidden states of NADE, one for each run of zeros where these are skipped, and their sums."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag, pad

ALIGNMENT = 128  # bytes: two registers of the widest vectors, what torch's loops take at a time
GRAIN = 1 << 15  # elements up to which torch never splits an elementwise loop between threads


def block_size(size: int, most: int) -> int:
    """Return the dimensions of a block, 3/4 of `most` or more: what leaves least to pad."""
    if size <= most:
        return size
    return min(range(most, most - most // 4 - 1, -1), key=lambda block: -size % block)


def padded(weight: Tensor, rows: int) -> Tensor:
    """Pad (D, outputs, H) with zeros to a multiple of `rows` and to whole vectors of H."""
    wide = ALIGNMENT // weight.element_size()
    return pad(weight, (0, -weight.shape[-1] % wide, 0, 0, 0, -len(weight) % rows))


def _whole_parts(states: int, width: int) -> int:
    """Return the rows for a number of states such that each thread gets whole ones.

    The states of a block are as many as its data make them. Where a thread's part of a tensor ends
    within a vector, torch computes the last elements by other instructions, so that without this a
    state's last bit could depend on how many states follow it.
    """
    threads = torch.get_num_threads()
    if threads == 1:
        return states
    return (
        math.ceil(states / threads / math.ceil(GRAIN / width)) * math.ceil(GRAIN / width) * threads
    )


def activate_(a: Tensor, activation: str) -> Tensor:
    """Apply relu or the sigmoid in place."""
    return a.relu_() if activation == "relu" else a.sigmoid_()


def activation_gradient_(gradient: Tensor, h: Tensor, activation: str) -> Tensor:
    """Multiply the gradient of h = g(a) by g'(a), in place."""
    if activation == "relu":
        return gradient.mul_(h > 0)
    return torch.ops.aten.sigmoid_backward.grad_input(gradient, h, grad_input=gradient)


def skips_zeros(device: torch.device) -> bool:
    """Return whether inputs of weight zero are left out: an accelerator would be waited for.

    How many are left is in the data, which the host would have to ask for in each step.
    """
    return device.type == "cpu"


class HiddenStates:
    """The hidden states of rows over blocks of dimensions, as running sums over active inputs.

    An input is active where its weight is not zero, or everywhere: see `skips_zeros`. In each
    block, a row's first state stands for the row's activations at the block's start, and each later
    one for one more active input. A state is a sum over a list of its own, never a row of a matrix
    product: the rounding of a product depends on its number of rows, which the data decide.

    Arguments:
        columns: which of a dimension's F weights its value selects, (batch, D) int64.
        weights: by what that is multiplied, (batch, D); zero where the value adds nothing.
        features: F.
        block: dimensions of a block.
    """

    def __init__(self, columns: Tensor, weights: Tensor, features: int, block: int) -> None:
        batch, size = columns.shape
        blocks = math.ceil(size / block)
        device = columns.device
        self.batch, self.width, self.features, self.blocks = batch, block, features, blocks

        def by_block(tensor: Tensor) -> Tensor:  # (blocks, batch, width)
            filled = pad(tensor, (0, -size % block))
            return filled.view(batch, blocks, block).transpose(0, 1)

        weights, rows = by_block(weights), by_block(columns)
        rows = rows + features * torch.arange(block, device=device)
        sparse = skips_zeros(device)
        active = weights != 0 if sparse else torch.ones_like(weights, dtype=torch.bool)
        start = torch.arange(batch, device=device)[:, None] + block * features
        begins = pad(active, (1, 0), value=True)
        number = begins.flatten().cumsum(0).view(begins.shape) - 1
        first = number[..., 0].flatten()
        within = number - number[:, :1, :1]  # numbers count from the block's first
        flat = begins.flatten()
        where = flat.nonzero()[:, 0] if sparse else torch.arange(len(flat), device=device)
        self.state = within[..., :-1]  # that serves each dimension
        self.first, self.last = within[..., 0], within[..., -1]  # of each block and row
        self.row = torch.cat([start.expand(blocks, -1, 1), rows], -1).flatten()[where]
        self.weight = pad(weights, (1, 0), value=1.0).flatten()[where]
        owner = where // (block + 1)
        serves = torch.arange(batch, device=device)[:, None] * block
        serves = serves + torch.arange(block + 1, device=device)
        self.served = serves.expand(blocks, -1, -1).flatten()[where]  # the first (row, d) of each
        self.since = torch.arange(len(where), device=device) - first[owner] + 1
        self.until = self.last.flatten()[owner] + 1
        # of running sums from a row's start, and of those to its end: both are 1 + 2 + ... + n
        self.states, self.summands = [batch * (block + 1)] * blocks, [0] * blocks
        if sparse:
            of_row = begins.sum(2)
            self.states = of_row.sum(1).tolist()
            self.summands = (of_row * (of_row + 1) // 2).sum(1).tolist()
        self.sparse = sparse
        # active inputs by the row of the weights that they select, and the first state that knows
        chosen = rows + block * features * torch.arange(blocks, device=device)[:, None, None]

        def of_active(tensor: Tensor) -> Tensor:
            return tensor[active] if sparse else tensor.flatten()

        order = of_active(chosen).argsort(stable=True)
        self.chosen = of_active(rows)[order]
        self.follows = of_active(within[..., 1:])[order]

    def block(self, index: int) -> BlockStates:
        """Return the states of one block."""
        return BlockStates(self, index)


class BlockStates:
    """The states of one block."""

    def __init__(self, runs: HiddenStates, index: int) -> None:
        begin = sum(runs.states[:index])
        part = slice(begin, begin + runs.states[index])
        self.runs, self.states, self.summands = runs, runs.states[index], runs.summands[index]
        self.state = runs.state[index]  # (batch, width)
        self.first, self.last = runs.first[index], runs.last[index]
        self.row, self.weight, self.served = runs.row[part], runs.weight[part], runs.served[part]
        self.since, self.until = runs.since[part], runs.until[part]
        inputs = begin - index * runs.batch  # active ones of earlier blocks
        some = slice(inputs, inputs + self.states - runs.batch)
        self.chosen, self.follows = runs.chosen[some], runs.follows[some]
        self.table = runs.width * runs.features

    def sums(self, w: Tensor, start: Tensor) -> Tensor:
        """Activations of every state, from W (width * F, H) and start (batch, H)."""
        source = torch.cat([w, start])
        if not self.runs.sparse:
            summands = self._by_row(source[self.row] * self.weight[:, None])
            return summands.cumsum(1).flatten(0, 1)
        numbers = torch.arange(self.states, device=w.device)
        slots, bags = _ranges(numbers + 1 - self.since, self.since, self.summands)
        empty = _whole_parts(self.states, w.shape[1]) - self.states
        bags = pad(bags, (0, empty), value=len(slots))
        return embedding_bag(
            self.row[slots], source, bags, mode="sum", per_sample_weights=self.weight[slots]
        )

    def later(self, h: Tensor) -> Tensor:
        """Sum of h over each state and all that follow it in its row, (states, H)."""
        if not self.runs.sparse:
            return self._by_row(h).flip(1).cumsum(1).flip(1).flatten(0, 1)
        numbers = torch.arange(self.states, device=h.device)
        following, bags = _ranges(numbers, self.until - numbers, self.summands)
        return embedding_bag(following, h, bags, mode="sum")

    def _by_row(self, states: Tensor) -> Tensor:
        """View what there is of each state by rows, which all have width + 1."""
        return states.view(self.runs.batch, self.runs.width + 1, states.shape[1])

    def sum_by_input(self, later: Tensor) -> Tensor:
        """Sum of weight * later over the active inputs that select each weight, (width * F, H)."""
        bags = torch.searchsorted(self.chosen, torch.arange(self.table, device=later.device))
        return embedding_bag(
            self.follows, later, bags, mode="sum", per_sample_weights=self.weight[self.follows]
        )

    def outputs(self, h: Tensor, v: Tensor) -> Tensor:
        """The products V_d h of every (row, dimension, logit), without a copy of h for each.

        They are the derivative of a weighted embedding bag by its weights, for which torch has a
        sampled dense-dense kernel on every device.
        """
        batch, width = self.state.shape
        outputs = v.shape[1]
        states = self.state[..., None].expand(-1, -1, outputs).reshape(-1).contiguous()
        rows = torch.arange(width * outputs, device=v.device).repeat(batch)
        products = torch.ops.aten._embedding_bag_per_sample_weights_backward(
            h, v.flatten(0, 1), rows, self.served * outputs, states, 0
        )
        return products.view(batch, width, outputs)

    def sum_by_state(self, weights: Tensor, v: Tensor) -> Tensor:
        """Sum of weights[row, d, o] V[d, o] over the (d, o) that a state serves, (states, H)."""
        width, outputs, _ = v.shape
        rows = torch.arange(width * outputs, device=v.device).repeat(self.runs.batch)
        bags, own = self.served * outputs, weights.flatten()
        return embedding_bag(rows, v.flatten(0, 1), bags, mode="sum", per_sample_weights=own)

    def sum_by_output(self, weights: Tensor, h: Tensor) -> Tensor:
        """Sum over rows of weights[row, d, o] h(row, d), (width, outputs, H)."""
        batch, width, outputs = weights.shape
        states = self.state.t()[:, None].expand(width, outputs, batch).reshape(-1)
        bags = torch.arange(width * outputs, device=h.device) * batch
        sums = embedding_bag(
            states, h, bags, mode="sum", per_sample_weights=weights.permute(1, 2, 0).reshape(-1)
        )
        return sums.view(width, outputs, -1)


def _ranges(begins: Tensor, lengths: Tensor, total: int) -> tuple[Tensor, Tensor]:
    """Ranges of these beginnings and lengths after each other, and where each begins there."""
    ends = lengths.cumsum(0)
    bags = ends - lengths
    shift = torch.repeat_interleave(begins - bags, lengths, output_size=total)
    return torch.arange(total, device=begins.device) + shift, bags
