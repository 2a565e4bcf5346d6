"""Parallel Multiscale: groups of pixels drawn in parallel, from coarse to fine."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from arcore.conditions import Classes
from arcore.decoding import Decoder
from arcore.events import Event, Levels
from arcore.families.raster import RasterConfig, RasterModel, image_shape
from arcore.layers.conditioning import ConditionMaps, ConditionProjection
from arcore.layers.cursor import ImageCursor
from arcore.layers.group_network import GroupNetwork
from arcore.layers.heads import Head
from arcore.model import AutoregressiveModel
from arcore.models.gated_pixelcnn import GatedPixelCNN
from arcore.models.pixelcnn import PixelCNN
from arcore.primitives.checks import require
from arcore.primitives.precision import summed
from arcore.primitives.pyramids import Group, Pyramid

BASES = ("gated_pixelcnn", "pixelcnn")
UPSCALINGS = ("A", "B")

OF_GROUPS = (  # hyperparameters of the groups' networks
    "width", "num_blocks", "kernel", "head_width", "patch_blocks", "patch_kernel", "dropout",
    "linear_prediction",
)  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class ParallelMultiscaleConfig(RasterConfig):
    """Hyperparameters of Parallel Multiscale, and all of `RasterConfig`.

    Arguments:
        base: gated_pixelcnn or pixelcnn, the model of the lowest resolution.
        base_size: least side of the lowest resolution; sides are halved as long as they keep it.
        base_width: maps of the base (h of a PixelCNN).
        base_layers: layers of the base (blocks of a PixelCNN).
        upscaling: A, whose groups' pixels are independent given earlier groups, or B, with a
            PixelCNN inside patches of a group.
        width: maps of a group's ResNet.
        num_blocks: residual blocks of a group's ResNet.
        kernel: size of its kernels, odd.
        head_width: maps of the layers that follow the ResNet.
        patch_grid: B shares a group out among patch_grid x patch_grid patches at most.
        patch_blocks: residual blocks of B's PixelCNN.
        patch_kernel: size of its kernels, odd.
        dropout: probability of dropping a value inside a block in training.
        linear_prediction: size of the kernels, odd, of linear predictions from the pixels known,
            to which the means of a logistic mixture are relative; None for none.
    """

    base: str = "gated_pixelcnn"
    base_size: int = 4
    base_width: int = 32
    base_layers: int = 3
    upscaling: str = "A"
    width: int = 64
    num_blocks: int = 3
    kernel: int = 3
    head_width: int = 64
    patch_grid: int = 4
    patch_blocks: int = 2
    patch_kernel: int = 3
    dropout: float = 0.0
    linear_prediction: int | None = None  # type: ignore[misc]
    choices = {"base": BASES, "upscaling": UPSCALINGS}
    least = {"num_blocks": 0, "patch_blocks": 0}
    odd = {"kernel": 1, "patch_kernel": 3}  # 1 would see nothing of the patch

    def make_base(self, event: Event) -> RasterModel:
        """Make the model of the lowest resolution."""
        names = [field.name for field in dataclasses.fields(RasterConfig)]
        names += ["head_width", "dropout", "linear_prediction"]
        shared = {name: getattr(self, name) for name in names}
        width, depth = self.base_width, self.base_layers
        colours = image_shape(event)[0] if self.head == "softmax" else 1
        require(width >= colours, "base_width", f"a map for each of {colours} colours", width)
        if self.base == "pixelcnn":
            return PixelCNN(event, PixelCNN.Config(hidden=width, num_blocks=depth, **shared))
        return GatedPixelCNN(event, GatedPixelCNN.Config(width=width, num_layers=depth, **shared))


class ParallelMultiscale(AutoregressiveModel):
    """Images drawn from coarse to fine in O(log N) network evaluations.

    Of each resolution's 2 x 2 groups, the upper left one, g1 = x[::2, ::2], is the resolution
    below:

        p(x) = p(x_base) prod_scales p(g2 | g1) p(g3 | g1, g2) p(g4 | g1, g2, g3).

    The base is a PixelCNN. Every other group at every scale has its own network: a ResNet on the
    grid of g1, with the groups so far as its channels (in the paper's type A they are interleaved,
    and the grid grows). In type A, 1 x 1 layers give the logits of all pixels of the group from its
    maps, a colour seeing the pixel's earlier ones by masks. In type B the maps are split into
    contiguous patches, and one shallow PixelCNN goes through all patches side by side.

    Reference:
        Reed, van den Oord, Kalchbrenner, Gomez Colmenarejo, Wang, Chen, Belov and de Freitas,
        "Parallel Multiscale Autoregressive Density Estimation", ICML 2017, section 3.

    Example:
        >>> import arcore
        >>> event = arcore.events.Levels(256, (3, 32, 32))
        >>> arcore.create_model("parallel_multiscale", event).num_evaluations  # of 3072 sub-pixels
        75
    """

    Config = ParallelMultiscaleConfig
    supports = (Levels,)
    hyperparameters: ParallelMultiscaleConfig

    def __init__(self, event: Event, hyperparameters: ParallelMultiscaleConfig) -> None:
        super().__init__(event, hyperparameters)
        assert isinstance(event, Levels)
        self.image = image_shape(event)
        self.pyramid = Pyramid(self.image[1:], hyperparameters.base_size)
        lowest = self.pyramid.base.extents(self.image[1:])
        self.base = hyperparameters.make_base(Levels(event.num_levels, (self.image[0], *lowest)))
        self.head = self.base.head
        self.scales = nn.ModuleList(_Scale(self, groups) for groups in self.pyramid.scales)

    def _scales(self) -> list[_Scale]:
        return cast(list[_Scale], list(self.scales))

    @property
    def num_evaluations(self) -> int:
        """How many network evaluations a sample takes.

        One per sub-pixel of the base, and one per colour (but of a logistic mixture) of a group, or
        of a position in its patches.
        """
        evaluations = self.base.event.size // self.image[0]
        for scale in self._scales():
            evaluations += sum(network.patch[0] * network.patch[1] for network in scale.groups())
        return evaluations * self.head.groups

    # -- scoring

    def _image(self, x: Tensor) -> Tensor:
        return x.reshape(-1, *self.image)

    def _moved(self, outputs: Tensor, by: Tensor | None) -> Tensor:
        return outputs if by is None else self.head.move_means(outputs, by)

    def _outputs(self, image: Tensor, condition: Tensor | None) -> Iterator[tuple[Group, Tensor]]:
        """Yield each group with the head's maps for its pixels, in drawing order."""
        base, maps = self.pyramid.base, self.base._condition_maps(condition)
        features = self.base.encode(image)
        yield base, self.base.outputs(base.of(features), maps)
        for scale in self._scales():
            maps = scale.maps(condition, self.dtype)
            for network in scale.groups():
                own, known = network.group.of(features), network.known_part(features)
                outputs = network(own, network.context(known, maps)).to(self.dtype)
                yield network.group, self._moved(outputs, network.predict(known))

    def _log_prob(self, x: Tensor, condition: Tensor | None) -> Tensor:
        image = self._image(x)
        groups, maps = zip(*self._outputs(image, condition), strict=True)
        levels = torch.cat([group.of(image).flatten(2) for group in groups], 2)[:, :, None]
        outputs = torch.cat([part.flatten(2) for part in maps], 2)[:, :, None]
        conditionals = self.head.distribution(outputs, levels, levels.shape)
        return summed(conditionals.log_prob(self._as_value(levels)))

    def _conditionals(self, x: Tensor, condition: Tensor | None) -> Distribution:
        image = self._image(x)
        shape = (len(image), self.head.num_outputs, *self.image[1:])
        whole = torch.empty(shape, dtype=self.dtype, device=self.device)
        for group, outputs in self._outputs(image, condition):
            group.of(whole).copy_(outputs)
        return self.head.distribution(whole, image, x.shape)

    # -- generation

    @property
    def schedule(self) -> tuple[Tensor, ...]:
        """The base's sub-pixels one by one; then, group by group, one colour of all its pixels.

        In type B, a block is one colour of the pixels at one position of all patches.
        """
        indices = torch.arange(self.event.size, device=self.device).view(self.image)
        blocks = [self.pyramid.base.of(indices).flatten()[block] for block in self.base.schedule]
        for scale in self._scales():
            for network in scale.groups():
                own = network.group.of(indices).flatten()
                blocks += [own[block] for block in network.schedule(self.device)]
        return tuple(blocks)

    def _decoder(self, batch: int, condition: Tensor | None) -> Decoder:
        return PyramidDecoder(self, batch, condition)


class _Scale(nn.Module):
    """The networks of groups 2 to 4 of one resolution."""

    def __init__(self, model: ParallelMultiscale, groups: list[Group]) -> None:
        super().__init__()
        grid = groups[0].extents(model.image[1:])
        self.condition_maps: ConditionMaps | None = None
        if model.condition_kind is not None:
            width = model.hyperparameters.condition_width
            self.condition_maps = ConditionMaps(model.condition_kind, grid, width)
        self.networks = nn.ModuleList(
            self._network(model, groups[:n], groups[n]) for n in range(1, len(groups))
        )

    def _network(self, model: ParallelMultiscale, known: list[Group], group: Group) -> GroupNetwork:
        p, features = model.hyperparameters, len(model.base.input_colours)
        given = {name: getattr(p, name) for name in OF_GROUPS}
        given["patch_grid"] = p.patch_grid if p.upscaling == "B" else None
        image, head, make = model.image, cast(Head, model.head), self.projection
        return GroupNetwork(known, group, image, features, head, make, **given)

    def groups(self) -> list[GroupNetwork]:
        return cast(list[GroupNetwork], list(self.networks))

    def projection(self, outputs: int) -> ConditionProjection | None:
        """Make a layer's projection of the condition, None without one."""
        maps = self.condition_maps
        if maps is None:
            return None
        return ConditionProjection(
            maps.channels, outputs, zero_initialised=isinstance(maps.kind, Classes)
        )

    def maps(self, condition: Tensor | None, dtype: torch.dtype) -> Tensor | None:
        """Return the maps of a condition on the grid of group 1."""
        if condition is None or self.condition_maps is None:
            return None
        return self.condition_maps(condition, dtype)


class PyramidDecoder(Decoder):
    """Goes through the decoders of the base and of the groups, each made when it is reached."""

    def __init__(self, model: ParallelMultiscale, batch: int, condition: Tensor | None) -> None:
        super().__init__(model.schedule, batch)
        self.model, self.condition = model, condition
        self.x = model._blank(batch)
        self.ahead = [(s, network) for s in model._scales() for network in s.groups()]
        self.part = model.base.decoder(batch, condition)

    def _next(self, block: Tensor) -> Distribution:
        if self.part.position == len(self.part.blocks):
            model = self.model
            scale, network = self.ahead.pop(0)
            maps = scale.maps(self.condition, model.dtype)
            known = network.known_part(model.base.encode(self.x.view(-1, *model.image)))
            context, predicted = network.context(known, maps), network.predict(known)
            self.part = _GroupDecoder(model, network, context, predicted)
        return self.part.next()

    def _push(self, block: Tensor, values: Tensor) -> None:
        self.x[:, block] = values.to(self.x.dtype)
        self.part.push(values)


class _GroupDecoder(Decoder):
    """Evaluates a group's PixelCNN at one position of all patches at a time."""

    def __init__(
        self,
        model: ParallelMultiscale,
        network: GroupNetwork,
        context: Tensor,
        predicted: Tensor | None,
    ) -> None:
        super().__init__(tuple(network.schedule(context.device)), len(context))
        self.model, self.network = model, network
        self.context, self.predicted = network.split(context), predicted
        self.cursor = ImageCursor(*network.patch)
        shape = (len(context), network.colours, *network.extents)
        self.levels = torch.zeros(shape, dtype=torch.int64, device=context.device)
        shape = (len(self.context), len(model.base.input_colours), *network.patch)
        self.own = context.new_zeros(shape)
        self.outputs = context

    def _place(self) -> tuple[int, int, int]:
        place, colour = divmod(self.position, self.network.colours)
        return colour, *divmod(place, self.network.patch[1])

    def _next(self, block: Tensor) -> Distribution:
        network, head = self.network, self.model.head
        colour, row, column = self._place()
        levels = network.at(self.levels, row, column)
        if colour == 0 or head.groups > 1:
            cursor = self.cursor.at(row, column)
            piece = cursor.piece(self.own), cursor.piece(self.context)
            outputs = network.pixels(*piece, cursor).to(self.model.dtype)
            outputs = outputs.view(len(levels), *network.patches, outputs.shape[1]).movedim(-1, 1)
            outputs = outputs[..., : levels.shape[-2], : levels.shape[-1]]
            by = None if self.predicted is None else network.at(self.predicted, row, column)
            self.outputs = self.model._moved(outputs, by)
        return head.colour_distribution(self.outputs, levels, colour)

    def _push(self, block: Tensor, values: Tensor) -> None:
        network = self.network
        colour, row, column = self._place()
        levels = network.at(self.levels, row, column)
        levels[:, colour] = values.view(levels[:, colour].shape).to(levels.dtype)
        if network.own is None:
            return
        height, width = levels.shape[-2:]
        own = self.own.view(len(levels), *network.patches, *self.own.shape[1:])
        features = self.model.base.encode(levels).permute(0, 2, 3, 1)
        own[:, :height, :width, :, row, column] = features
        if colour == network.colours - 1:
            cursor = self.cursor.at(row, column)
            network.own.write_cache(cursor.piece(self.own), cursor)
