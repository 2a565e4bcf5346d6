"""Raster models that may read images along one of several S-curves, all by the same weights."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Self

import torch
from torch import Tensor

from arcore.derived_buffers import shared
from arcore.ensembles import Ensemble
from arcore.events import Event
from arcore.families.raster import OrderedRasterConfig, RasterModel, image_shape
from arcore.layers.convolutions import CausalConv2d, pixel_conv
from arcore.layers.local_convolutions import LocalConv2d, along_curve
from arcore.primitives.checks import require, require_int
from arcore.primitives.orderings import CPU, ORDERINGS, S_CURVES, make_ordering, transformed


@dataclasses.dataclass(frozen=True, kw_only=True)
class SCurveConfig(OrderedRasterConfig):
    """Hyperparameters of a raster model that knows S-curves; those of `OrderedRasterConfig` too.

    Arguments:
        ordering: may be `s_curve` too (even rows to the right, odd ones to the left), for which the
            image is not rearranged: masks follow the curve.
        num_orderings: orders, at most 8, for which the network is trained: the S-curve and its
            images under the symmetries of a square. 1 in another ordering.
    """

    num_orderings: int = 1
    choices = {"ordering": (*ORDERINGS, "s_curve")}

    def __post_init__(self) -> None:
        super().__post_init__()
        most = len(S_CURVES) if self.ordering == "s_curve" else 1
        expected = f"at most {most} in ordering {self.ordering}"
        require(self.num_orderings <= most, "num_orderings", expected, self.num_orderings)


class SCurveModel(RasterModel):
    """A raster model that with the ordering `s_curve` takes local masks.

    The network's image is transformed so that its order becomes the first S-curve, and kernels
    alike. Each call in training takes the next order (see `set_step`), `member(i)` is the network
    under order i and shares its weights, and `ensemble(n)` mixes n of them as joints. The model
    itself scores and samples under order 0.
    """

    hyperparameters: SCurveConfig
    _own_symmetry = S_CURVES[0]

    def __init__(self, event: Event, hyperparameters: SCurveConfig) -> None:
        super().__init__(event, hyperparameters)
        self.num_members = self.max_members = hyperparameters.num_orderings
        self.changes_by_step = self.num_members > 1

    def convolution(self, kind: str, inputs: Tensor, outputs: Tensor, size: int) -> CausalConv2d:
        """Make a size x size convolution of kind A or B."""
        make = LocalConv2d if self.ordering == "s_curve" and size > 1 else pixel_conv
        return make(kind, inputs, outputs, size)

    def _arrange(self) -> tuple[Tensor, Tensor]:
        if self.ordering != "s_curve":
            return super()._arrange()
        _, height, width = image_shape(self.event)
        pixels = torch.arange(height * width, device=CPU).view(height, width)
        pixels = transformed(pixels, self.symmetry)
        return pixels, pixels.flatten()[make_ordering("snake", tuple(pixels.shape))]

    def place(self, pixel: int) -> tuple[int, int]:
        """Return the row and column of a pixel by its number in the order."""
        row, column = super().place(pixel)
        turns = self.ordering == "s_curve" and row % 2
        return row, self.image[2] - 1 - column if turns else column

    @torch.inference_mode(False)  # training may follow what is evaluated
    def _follow(self, symmetry: str) -> None:
        self.symmetry = symmetry
        self._set_order(self.device)

    def _set_order(self, device: torch.device) -> None:
        if self.ordering == "s_curve":
            self.layer_call = partial(along_curve, self.symmetry)
        super()._set_order(device)

    def _set_step(self, seed: int, step: int) -> None:
        if self.changes_by_step:
            self._follow(S_CURVES[step % self.num_members])

    def _step_state(self) -> str:
        return self.symmetry

    def _restore(self, state: object) -> None:
        self._follow(str(state))

    def _rebuild(self) -> None:
        self._follow(self._own_symmetry)

    def train(self, mode: bool = True) -> Self:
        """Switch between training and evaluation, which restores the model's own order."""
        super().train(mode)
        if not mode and self.changes_by_step:
            self._rebuild()
        return self

    def member(self, index: int) -> Self:
        """Return the model under order `index`; it shares this model's weights."""
        require_int(index, "index", 0)
        require(index < self.num_members, "index", f"below {self.num_members}", index)
        view = shared(self)
        view._own_symmetry, view.changes_by_step = S_CURVES[index], False
        view._rebuild()
        return view

    def ensemble(self, num_members: int) -> Ensemble:
        """Return the mixture of the model under its first `num_members` orders."""
        super().ensemble(num_members)
        return Ensemble(self.member(index) for index in range(num_members))
