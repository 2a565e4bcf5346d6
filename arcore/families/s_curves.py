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
from arcore.layers.cursor import LayerCall, full_image
from arcore.layers.local_convolutions import LocalConv2d, along_curve
from arcore.primitives.checks import require
from arcore.primitives.orderings import CPU, S_CURVES, make_ordering, transformed


@dataclasses.dataclass(frozen=True, kw_only=True)
class SCurveConfig(OrderedRasterConfig):
    """Hyperparameters of a raster model with local masks; those of `OrderedRasterConfig` too.

    Arguments:
        s_curves: orders, at most 8, for which the network is trained: the S-curve (even rows to the
            right, odd ones to the left) and its images under the symmetries of a square. 0 for
            `ordering` instead.
    """

    s_curves: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        fits = self.s_curves <= len(S_CURVES)
        require(fits, "s_curves", f"at most {len(S_CURVES)}", self.s_curves)
        plain = self.ordering == "raster" and self.linear_prediction is None
        expected = "0 with an ordering or a linear prediction"
        require(plain or not self.s_curves, "s_curves", expected, self.s_curves)


class SCurveModel(RasterModel):
    """A raster model that with `s_curves` takes an order's local masks in place of an ordering.

    The network's image is transformed so that the order becomes the first S-curve, and kernels
    alike. Each call in training takes the next order (see `set_step`), `member(i)` is the network
    under order i and shares its weights, and `ensemble(n)` mixes n of them as joints. The model
    itself scores and samples under order 0.
    """

    hyperparameters: SCurveConfig
    _own_symmetry = S_CURVES[0]

    def __init__(self, event: Event, hyperparameters: SCurveConfig) -> None:
        super().__init__(event, hyperparameters)
        self.num_members = self.max_members = max(1, hyperparameters.s_curves)
        self.changes_by_step = self.num_members > 1

    def convolution(self, kind: str, inputs: Tensor, outputs: Tensor, size: int) -> CausalConv2d:
        """Make a size x size convolution of kind A or B, in the ordering or along S-curves."""
        make = LocalConv2d if self.hyperparameters.s_curves and size > 1 else pixel_conv
        return make(kind, inputs, outputs, size)

    # -- orders

    @property
    def ordering(self) -> str:
        """The name of the order in which pixels are drawn."""
        p = self.hyperparameters
        return "s_curve" if p.s_curves else p.ordering

    @property
    def layer_call(self) -> LayerCall:
        """How layers are evaluated over whole images."""
        return partial(along_curve, self.symmetry) if self.hyperparameters.s_curves else full_image

    def _arrange(self) -> tuple[Tensor, Tensor]:
        if not self.hyperparameters.s_curves:
            return super()._arrange()
        _, height, width = image_shape(self.event)
        pixels = torch.arange(height * width, device=CPU).view(height, width)
        pixels = transformed(pixels, self.symmetry)
        return pixels, pixels.flatten()[make_ordering("snake", tuple(pixels.shape))]

    def place(self, pixel: int) -> tuple[int, int]:
        """Return the row and column of a pixel by its number in the order."""
        row, column = super().place(pixel)
        turns = self.hyperparameters.s_curves and row % 2
        return row, self.image[2] - 1 - column if turns else column

    @torch.inference_mode(False)  # training may follow what is evaluated
    def _follow(self, symmetry: str) -> None:
        self.symmetry = symmetry
        self._set_order(self.device)

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
        is_int = isinstance(index, int) and not isinstance(index, bool)
        fits = is_int and 0 <= index < self.num_members
        require(fits, "index", f"an order in [0, {self.num_members})", index)
        view = shared(self)
        view._own_symmetry, view.changes_by_step = S_CURVES[index], False
        view._rebuild()
        return view

    def ensemble(self, num_members: int) -> Ensemble:
        """Return the mixture of the model under its first `num_members` orders."""
        super().ensemble(num_members)
        return Ensemble(self.member(index) for index in range(num_members))
