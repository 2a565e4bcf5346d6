"""What image models in raster order share: encoding, head, conditions and the fast decoder."""

import abc
import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn.functional import pad

from arcore.conditions import Classes
from arcore.decoding import Decoder
from arcore.distributions.drawing import SamplingOptions, reshape, select
from arcore.events import Binary, Event, Gray, Levels, Real, is_real
from arcore.families.cycling import CyclingModel
from arcore.hyperparameters import CheckedHyperparameters
from arcore.layers import level_features
from arcore.layers.conditioning import ConditionMaps, ConditionProjection
from arcore.layers.convolutions import along_curve
from arcore.layers.cursor import ImageCursor, LayerCall, Reader, full_image
from arcore.layers.heads import PREDICTED_SPREAD, Head
from arcore.layers.linear_prediction import CausalPrediction
from arcore.layers.mcgsm import MCGSM
from arcore.primitives.checks import require, require_int, require_odd
from arcore.primitives.masks import channel_groups
from arcore.primitives.orderings import (
    ORDERINGS,
    SYMMETRIES,
    inverse,
    make_ordering,
    transformed,
    with_channels,
)
from arcore.primitives.precision import DRAWN_IN
from arcore.primitives.transfer import to_device

NEIGHBOURLY = ("raster", "reverse", "column")


def image_shape(event: Event) -> tuple[int, int, int]:
    """Return the event's shape as an image (C, H, W).

    A vector is one row, (H, W) has one channel, and the frames of a clip (T, C, H, W) count as
    channels, T C of them.
    """
    height, width = (1, *event.extents)[-2:]
    return event.size // (height * width), height, width


@dataclasses.dataclass(frozen=True, kw_only=True)
class RasterConfig(CheckedHyperparameters):
    """Hyperparameters that all raster models have.

    Arguments:
        head: of levels softmax (a sigmoid over two) or logistic_mixture; of reals mcgsm, a mixture
            of conditional Gaussian scale mixtures (`arcore.layers.mcgsm`).
        num_mixtures: components of a mixture.
        inputs: scaled (to [-1, 1]) or one_hot.
        num_classes: classes of a class condition.
        condition_size: length of a vector condition.
        condition_shape: channels, height and width of a map condition.
        condition_width: maps that the network for a map condition gives.
    """

    head: str = "softmax"
    num_mixtures: int = 5
    inputs: str = "scaled"
    num_classes: int | None = None
    condition_size: int | None = None
    condition_shape: tuple[int, int, int] | None = None
    condition_width: int = 16
    linear_prediction: ClassVar[int | None] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        size = self.linear_prediction
        if size is None:
            return
        require_odd(size, "linear_prediction", 3)
        fits = self.head != "softmax" and self.inputs == "scaled"
        expected = "None unless head is a mixture (logistic_mixture, mcgsm) and inputs are scaled"
        require(fits, "linear_prediction", expected, size)


@dataclasses.dataclass(frozen=True, kw_only=True)
class OrderedRasterConfig(RasterConfig):
    """Hyperparameters of a raster model that may read the image in another ordering.

    Arguments:
        ordering: of the pixels, a name of `arcore.orderings.ORDERINGS`; the image is rearranged so
            that the network's raster order is that ordering. `column` transposes it and `reverse`
            turns it round, which leaves neighbours together; `snake`, `spiral` and `random` do not.
            `s_curve` (even rows to the right, odd ones to the left) does not rearrange it: layers
            are `arcore.layers.convolutions.LocalConv2d`.
        ordering_seed: for `random`.
        num_orderings: orders, at most 8, for which the network is trained: the S-curve and its
            images under the symmetries of a square. 1 in another ordering.
        linear_prediction: size of the kernel, odd, of a linear prediction from the pixels before,
            to which the means of a mixture are relative; None for none. Only in an
            ordering that leaves neighbours together.
        embedding_width: numbers that the network learns to stand for each level at its input, for
            levels that are codes, without an order; None for `inputs`.
    """

    ordering: str = "raster"
    ordering_seed: int = 0
    num_orderings: int = 1
    linear_prediction: int | None = None  # type: ignore[misc]
    embedding_width: int | None = None
    choices = {"ordering": (*ORDERINGS, "s_curve")}

    def __post_init__(self) -> None:
        super().__post_init__()
        most = len(SYMMETRIES) if self.ordering == "s_curve" else 1
        expected = f"at most {most} in ordering {self.ordering}"
        require(self.num_orderings <= most, "num_orderings", expected, self.num_orderings)
        if self.embedding_width is not None:
            require_int(self.embedding_width, "embedding_width", 1)
            fits = self.inputs == "scaled" and self.linear_prediction is None
            expected = "None with one-hot inputs or a linear prediction"
            require(fits, "embedding_width", expected, self.embedding_width)
        if self.linear_prediction is not None:
            expected = f"one of {NEIGHBOURLY} where there is a linear prediction"
            require(self.ordering in NEIGHBOURLY, "ordering", expected, self.ordering)


class RasterModel(CyclingModel):
    """A model that draws an image pixel by pixel in raster order, each pixel colour by colour.

    A subclass sets `first` (the layers that read the image itself) and writes its network once, in
    terms of `call(layer, x)`: see `arcore.layers.cursor`. Its maps are shared out among `groups` of
    colours by `self.colours(width)`. A column ordering transposes `image`, (C, H, W).
    """

    supports: ClassVar[tuple[type[Event], ...]] = (Levels, Real)
    hyperparameters: RasterConfig
    symmetry: str = "identity"  # by which the network's image is transformed

    def __init__(self, event: Event, hyperparameters: RasterConfig) -> None:
        super().__init__(event, hyperparameters)
        p = hyperparameters
        self.image = image_shape(event)
        self.ordering: str = getattr(p, "ordering", "raster")
        self.head = self._make_head(event)
        self.num_features = level_features.num_features(event, p.inputs)
        self.embedding: nn.Embedding | None = None
        if width := getattr(p, "embedding_width", None):
            require(isinstance(event, Levels), "embedding_width", "None for reals", width)
            assert isinstance(event, Levels)
            self.num_features, self.embedding = width, nn.Embedding(event.num_levels, width)
        self.prediction: CausalPrediction | None = None
        if p.linear_prediction is not None:
            self.prediction = CausalPrediction(self.image[0], p.linear_prediction)
        if self.condition_kind is not None:
            self.condition_maps = ConditionMaps(
                self.condition_kind, self.image[1:], p.condition_width
            )
        self.order: Tensor
        self.dimensions: Tensor
        self.places: Tensor
        self._set_members(getattr(p, "num_orderings", 1))
        self._set_order(torch.get_default_device())

    def _make_head(self, event: Event) -> Head | MCGSM:
        p = self.hyperparameters
        spread = 1.0 if p.linear_prediction is None else PREDICTED_SPREAD
        if is_real(event):
            require(p.head == "mcgsm", "head", "mcgsm for reals", p.head)
            wide = 3.0 if event.bin_width is None else 1.0  # standardised data, or [-1, 1]
            return MCGSM(event, self.image[0], p.num_mixtures, wide * spread)
        assert isinstance(event, Levels)
        gray = isinstance(event, Gray)
        return Head(p.head, event.num_levels, self.image[0], p.num_mixtures, gray, spread)

    def _arrange(self) -> tuple[Tensor, Tensor]:
        """Return the pixels of the network's image, (H, W), and their order."""
        size = image_shape(self.event)[1:]
        if self.ordering == "s_curve":
            grid = transformed(make_ordering("raster", size).view(size), self.symmetry)
            return grid, grid.flatten()[make_ordering("snake", tuple(grid.shape))]
        seed = getattr(self.hyperparameters, "ordering_seed", 0)
        order = make_ordering(self.ordering, size, seed)
        return order.view(size[::-1] if self.ordering == "column" else size), order

    def _set_order(self, device: torch.device) -> None:
        channels = self.image[0]
        pixels, order = self._arrange()
        self.image = channels, *pixels.shape
        buffers = {"order": with_channels(order, channels)}
        if self.ordering != "raster":
            # the dimension at each place of the network's image, and the place of each dimension
            places = with_channels(pixels.flatten(), channels).view(-1, channels).t().reshape(-1)
            buffers |= {"dimensions": places, "places": inverse(places)}
        for name, buffer in buffers.items():
            self.register_buffer(name, to_device(buffer, device), persistent=False)

    def _take(self, index: int, seed: int | None = None) -> None:
        self.symmetry = tuple(SYMMETRIES)[index]
        self._set_order(self.device)

    # -- for networks

    @property
    def input_colours(self) -> Tensor:
        """The colour of each feature map of the image."""
        return channel_groups(self.image[0] * self.num_features, self.head.groups)

    def colours(self, width: int, name: str = "width") -> Tensor:
        """The colour of each of `width` maps, a number that errors call by `name`."""
        fits = width >= self.head.groups
        require(fits, name, f"at least one map per colour, {self.head.groups}", width)
        return channel_groups(width, self.head.groups)

    def projection(self, outputs: int) -> ConditionProjection | None:
        """Make a layer's projection of the condition, None without one."""
        if self.condition_kind is None:
            return None
        zero_initialised = isinstance(self.condition_kind, Classes)
        return ConditionProjection(self.condition_maps.channels, outputs, zero_initialised)

    @property
    @abc.abstractmethod
    def first(self) -> Sequence[Reader]:
        """The layers that read the features of the pixel itself and of those before it."""

    @abc.abstractmethod
    def _network(self, features: Tensor, maps: Tensor | None, call: LayerCall) -> Tensor:
        """Return the head's maps (batch, outputs, h, w) for features (batch, inputs, h, w)."""

    def _network_at(self, features: Tensor, maps: Tensor | None, cursor: ImageCursor) -> Tensor:
        """Return the head's maps (batch, outputs, 1, 1) at the cursor, features being whole."""
        return self._network(cursor.piece(features), maps, cursor)

    def outputs(self, features: Tensor, maps: Tensor | None) -> Tensor:
        """Return the head's maps of whole images, means relative to the prediction if any."""
        along = partial(along_curve, self.symmetry)
        call = along if self.ordering == "s_curve" else full_image
        outputs = self._network(features, maps, call).to(self.dtype)
        if self.prediction is None:
            return outputs
        return self.head.move_means(outputs, self.prediction(features))

    def outputs_at(self, features: Tensor, maps: Tensor | None, cursor: ImageCursor) -> Tensor:
        """Return the head's maps (batch, outputs, 1, 1) at the cursor, features being whole."""
        outputs = self._network_at(features, maps, cursor).to(self.dtype)
        if self.prediction is None:
            return outputs
        return self.head.move_means(outputs, cursor(self.prediction, cursor.piece(features)))

    @property
    def readers(self) -> Sequence[Reader]:
        """The layers that read the features of the image."""
        return self.first if self.prediction is None else [*self.first, self.prediction]

    # -- scoring

    def encode(self, image: Tensor) -> Tensor:
        """Encode values (batch, C, H, W) as features (batch, C * F, H, W)."""
        if self.embedding is not None:
            return self.embedding(image.long()).movedim(-1, 2).flatten(1, 2)
        return level_features.encode_image(
            image, self.event, self.hyperparameters.inputs, self.dtype
        )

    def _condition_maps(self, condition: Tensor | None) -> Tensor | None:
        if condition is None:
            return None
        with self._scoring_precision():
            maps: Tensor = self.condition_maps(condition, self.dtype)
        if self.ordering != "raster" and maps.shape[-1] * maps.shape[-2] > 1:
            pixels = self.dimensions[: self.image[1] * self.image[2]]
            maps = maps.flatten(2)[:, :, pixels].unflatten(2, self.image[1:])
        return maps

    def _conditionals(self, x: Tensor, condition: Tensor | None) -> Distribution:
        return self.conditionals_given(x, self._condition_maps(condition))

    def conditionals_given(self, x: Tensor, maps: Tensor | None) -> Distribution:
        """Return all conditionals, given condition maps (batch, channels, h, w)."""
        flat = x.flatten(1) if self.ordering == "raster" else x.flatten(1)[:, self.dimensions]
        image = flat.reshape(len(x), *self.image)
        with self._scoring_precision():
            outputs = self.outputs(self.encode(image), maps)
        if self.ordering == "raster":
            return self.head.distribution(outputs, image, x.shape)
        arranged = self.head.distribution(outputs, image, flat.shape)
        return reshape(select(arranged, flat.shape, self.places), x.shape)

    # -- generation

    @property
    def schedule(self) -> tuple[Tensor, ...]:
        """One block per sub-pixel in the ordering, a pixel's colours one after the other."""
        return tuple(self.order.split(1))

    def _decoder(self, batch: int, condition: Tensor | None) -> Decoder:
        return RasterDecoder(self, batch, self._condition_maps(condition))


class RasterDecoder(Decoder):
    """Evaluates the network at the next pixel alone; layers keep what later pixels need."""

    def __init__(self, model: RasterModel, batch: int, maps: Tensor | None) -> None:
        super().__init__(model.schedule, batch)
        self.model, self.maps = model, maps
        self.image = model._blank(batch).view(batch, *model.image)
        self.features = model.encode(self.image)
        self.cursor = ImageCursor(*model.image[1:], model.symmetry)
        self.outputs = self.features

    def _place(self) -> tuple[int, int, int]:
        channels, _, width = self.model.image
        pixel, colour = divmod(self.position, channels)
        row, column = divmod(pixel, width)
        turned = self.model.ordering == "s_curve" and row % 2
        return colour, row, width - 1 - column if turned else column

    def _next(self, block: Tensor) -> Distribution:
        model = self.model
        colour, row, column = self._place()
        if colour == 0 or model.head.groups > 1:
            cursor = self.cursor.at(row, column)
            self.outputs = model.outputs_at(self.features, self.maps, cursor)
        pixel = self.image[:, :, row : row + 1, column : column + 1]
        return model.head.colour_distribution(self.outputs, pixel, colour)

    def _push(self, block: Tensor, values: Tensor) -> None:
        model = self.model
        colour, row, column = self._place()
        self.image[:, colour, row, column] = values[:, 0].to(self.image.dtype)
        pixel = model.encode(self.image[:, :, row : row + 1, column : column + 1])
        self.features[:, :, row : row + 1, column : column + 1] = pixel
        if colour == model.image[0] - 1:
            cursor = self.cursor.at(row, column)
            for layer in model.readers:
                layer.write_cache(pixel, cursor)

    def draw_rest(self, options: SamplingOptions) -> list[Tensor]:
        """Draw the rest; binary images with fewer operations a pixel, on a CPU the same numbers."""
        model, first = self.model, self.position
        is_bit = isinstance(model.event, Binary) and model.image[0] == model.num_features == 1
        fits = is_bit and model.head.name == "softmax"
        if not fits or options.temperature != 1 or model.dtype not in DRAWN_IN:
            return super().draw_rest(options)
        shape = (len(self.blocks) - first, self.batch, 1)
        kind: dict[str, Any] = {"device": model.device, "dtype": model.dtype}
        uniform = torch.rand(shape, generator=options.generator, **kind)
        low, high = model.encode(torch.arange(2, device=model.device).view(2, 1, 1, 1)).flatten()
        drawn, layers, dtype = torch.empty_like(uniform), model.first, model.dtype
        for x, u in zip(drawn, uniform, strict=True):
            _, row, column = self._place()
            cursor = self.cursor.at(row, column)
            outputs = model._network_at(self.features, self.maps, cursor).to(dtype)
            torch.lt(u, outputs[:, :, 0, 0].sigmoid(), out=x)
            pixel = torch.lerp(low, high, x)
            self.features[:, :, row, column] = pixel
            cursor = self.cursor.at(row, column)
            for layer in layers:
                layer.write_cache(pixel[:, :, None, None], cursor)
            self.position += 1
            options.advance(1)
        return list(drawn.long().unbind())


class TwoStackModel(RasterModel):
    """A raster model of two stacks, which leave no blind spot.

    A vertical stack knows the rows above the pixel, whole; a horizontal one the pixel's own row.
    The image is shifted one row down before it enters the vertical stack.
    """

    @abc.abstractmethod
    def _vertical(self, above: Tensor, maps: Tensor | None, call: LayerCall) -> list[Tensor]:
        """Return what the vertical stack passes on to each horizontal layer."""

    @abc.abstractmethod
    def _horizontal(
        self, h: Tensor, links: list[Tensor], maps: Tensor | None, call: LayerCall
    ) -> Tensor:
        """Return the head's maps for features h and what the vertical stack passes on."""

    def _network(self, features: Tensor, maps: Tensor | None, call: LayerCall) -> Tensor:
        above = pad(features, (0, 0, 1, -1))
        return self._horizontal(features, self._vertical(above, maps, call), maps, call)

    def _row_links(
        self, features: Tensor, maps: Tensor | None, cursor: ImageCursor
    ) -> list[Tensor]:
        """Evaluate the vertical stack on the cursor's whole row."""
        row, column = cursor.row, cursor.column
        above = features[:, :, row - 1 : row] if row else torch.zeros_like(features[:, :, :1])
        links = self._vertical(above, maps, cursor.at(row, 0, cursor.width))
        cursor.at(row, column)
        return links

    def _network_at(self, features: Tensor, maps: Tensor | None, cursor: ImageCursor) -> Tensor:
        links: list[Tensor] = cursor.state(self, list)
        if cursor.enters_row(self):
            links[:] = self._row_links(features, maps, cursor)
        here = [link[..., cursor.column : cursor.column + 1] for link in links]
        return self._horizontal(cursor.piece(features), here, maps, cursor)
