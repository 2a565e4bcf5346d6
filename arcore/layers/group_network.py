"""The network of a group of pixels that a multiscale model draws in parallel."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, relu

from arcore.layers.conditioning import ConditionProjection, conditioned
from arcore.layers.convolutions import CausalConv2d, Conv2d, pixel_conv
from arcore.layers.cursor import LayerCall, full_image
from arcore.layers.heads import Head
from arcore.layers.linear_prediction import GroupPrediction
from arcore.primitives.activation_checkpointing import run_block
from arcore.primitives.dropout import dropout
from arcore.primitives.masks import channel_groups
from arcore.primitives.pyramids import Group


class _GroupBlock(nn.Module):
    """A residual block over the groups so far, u + W relu(K relu(u) + V s)."""

    def __init__(
        self, width: int, kernel: int, dropout: float, projection: ConditionProjection | None
    ) -> None:
        super().__init__()
        self.core = Conv2d(width, width, kernel, padding=kernel // 2)
        self.expand = Conv2d(width, width, kernel, padding=kernel // 2)
        self.projection = projection
        self.dropout = dropout

    def forward(self, u: Tensor, maps: Tensor | None) -> Tensor:
        # what a convolution returns is nobody else's: it may change in place
        h = relu(conditioned(self.core(relu(u)), self.projection, maps), inplace=True)
        expanded: Tensor = self.expand(dropout(h, self.dropout, self.training))
        return expanded.add_(u)


class _PatchBlock(nn.Module):
    """A residual block of the PixelCNN inside patches, u + W relu(K relu(u))."""

    def __init__(self, width: Tensor, kernel: int, dropout: float) -> None:
        super().__init__()
        self.core = pixel_conv("B", width, width, kernel)
        self.expand = pixel_conv("B", width, width)
        self.dropout = dropout

    def forward(self, u: Tensor, call: LayerCall) -> Tensor:
        h = relu(call(self.core, relu(u)), inplace=True)
        h = dropout(h, self.dropout, self.training)
        return call(self.expand, h).add_(u)


class GroupNetwork(nn.Module):
    """A ResNet over the groups before a group, and a shallow PixelCNN inside its patches.

    With patches of one pixel (type A of the paper) the PixelCNN has 1 x 1 kernels and no blocks,
    and there is nothing of the group that the first colour could see.

    Arguments:
        known: the groups that it sees, the first of them the lower resolution.
        group: whose pixels it draws.
        image: (C, H, W) of the whole image.
        features: feature maps of the whole image, as `arcore.layers.level_features` encodes it.
        head: of the conditionals.
        make_projection: makes the projection of the condition for a layer of a number of maps.
        patch_grid: patch_grid x patch_grid patches at most; None for patches of one pixel.
    """

    def __init__(
        self,
        known: list[Group],
        group: Group,
        image: tuple[int, int, int],
        features: int,
        head: Head,
        make_projection: Callable[[int], ConditionProjection | None],
        *,
        width: int,
        num_blocks: int,
        kernel: int,
        head_width: int,
        patch_grid: int | None,
        patch_blocks: int,
        patch_kernel: int,
        dropout: float,
        linear_prediction: int | None = None,
    ) -> None:
        super().__init__()
        self.known, self.group = known, group
        self.grid = known[0].extents(image[1:])
        self.extents = group.extents(image[1:])
        self.colours = image[0]
        rows, columns = self.extents
        per_side = patch_grid or max(rows, columns)
        self.patch = (-(-rows // per_side), -(-columns // per_side))
        self.patches = (-(-rows // self.patch[0]), -(-columns // self.patch[1]))

        inputs = len(known) * features
        self.input = Conv2d(inputs, width, kernel, padding=kernel // 2)
        self.input_projection = make_projection(width)
        self.blocks = nn.ModuleList(
            _GroupBlock(width, kernel, dropout, make_projection(width)) for _ in range(num_blocks)
        )
        own, hidden, outputs = (
            channel_groups(maps, head.groups) for maps in (features, head_width, head.num_outputs)
        )
        self.link = Conv2d(width, head_width, 1)
        self.own: CausalConv2d | None = None
        spatial = self.patch != (1, 1)
        if spatial or head.groups > 1:
            self.own = pixel_conv("A", own, hidden, patch_kernel if spatial else 1)
        self.patch_blocks = nn.ModuleList(
            _PatchBlock(hidden, patch_kernel, dropout)
            for _ in range(patch_blocks if spatial else 0)
        )
        self.hidden_head = pixel_conv("B", hidden, hidden)
        self.output = pixel_conv("B", hidden, outputs)
        self.output.set_bias(head.initial_bias())
        self.prediction: GroupPrediction | None = None
        if linear_prediction is not None:
            self.prediction = GroupPrediction(known, group, image[0], linear_prediction)

    def schedule(self, device: torch.device) -> list[Tensor]:
        """Return the group's own schedule: blocks of indices into (colours, height, width)."""
        shape = (self.colours, *self.extents)
        indices = torch.arange(math.prod(shape), device=device).view(shape)
        return [
            self.at(indices[colour], row, column).flatten()
            for row in range(self.patch[0])
            for column in range(self.patch[1])
            for colour in range(self.colours)
        ]

    def at(self, maps: Tensor, row: int, column: int) -> Tensor:
        """Return the pixels (..., r, c) at a position of all patches that have it, a view."""
        return maps[..., row :: self.patch[0], column :: self.patch[1]]

    def known_part(self, features: Tensor) -> list[Tensor]:
        """Return the groups that it sees of the features of a whole image, views."""
        return [group.of(features) for group in self.known]

    def context(self, known: Sequence[Tensor], maps: Tensor | None) -> Tensor:
        """Map the features of known groups to (batch, head_width, height, width) of the group."""
        u = conditioned(self.input(self._on_grid(known)), self.input_projection, maps)
        for block in self.blocks:
            u = run_block(block, u, maps)
        height, width = self.extents
        return self.link(relu(u[..., :height, :width]))

    def predict(self, known: Sequence[Tensor]) -> Tensor | None:
        """Predict the group's pixels, (batch, C, height, width), from known groups' pixels."""
        if self.prediction is None:
            return None
        height, width = self.extents
        predicted: Tensor = self.prediction(self._on_grid(known))
        return predicted[..., :height, :width]

    def _on_grid(self, known: Sequence[Tensor]) -> Tensor:
        """Put groups side by side as channels, zero where a group has no pixel."""
        height, width = self.grid
        padded = [pad(x, (0, width - x.shape[-1], 0, height - x.shape[-2])) for x in known]
        return torch.cat(padded, 1)

    def forward(self, own: Tensor, context: Tensor) -> Tensor:
        """Return the head's maps of all pixels, given the features of these pixels themselves."""
        if self.patch == (1, 1):
            return self.pixels(own, context, full_image)
        outputs = self.pixels(self.split(own), self.split(context), full_image)
        return self.merge(outputs)

    def pixels(self, own: Tensor, context: Tensor, call: LayerCall) -> Tensor:
        """Return the head's maps for patches, or for a place of theirs."""
        u = context if self.own is None else call(self.own, own).add_(context)
        for block in self.patch_blocks:
            u = run_block(block, u, call)
        return call(self.output, relu(call(self.hidden_head, relu(u)), inplace=True))

    def split(self, maps: Tensor) -> Tensor:
        """Cut (batch, n, height, width) into (batch * patches, n, *patch), zero beyond the edge."""
        (rows, columns), (height, width) = self.patches, self.patch
        below, right = rows * height - maps.shape[-2], columns * width - maps.shape[-1]
        cut = pad(maps, (0, right, 0, below)).view(*maps.shape[:2], rows, height, columns, width)
        return cut.permute(0, 2, 4, 1, 3, 5).reshape(-1, maps.shape[1], height, width)

    def merge(self, patches: Tensor) -> Tensor:
        """Undo `split`."""
        (rows, columns), (height, width) = self.patches, self.patch
        cut = patches.view(-1, rows, columns, patches.shape[1], height, width)
        whole = cut.permute(0, 3, 1, 4, 2, 5)
        whole = whole.reshape(-1, patches.shape[1], rows * height, columns * width)
        return whole[..., : self.extents[0], : self.extents[1]]
