"""Raster models of a vertical and a horizontal stack, which leave no blind spot."""

from __future__ import annotations

import abc

import torch
from torch import Tensor
from torch.nn.functional import pad

from arcore.families.raster import RasterModel
from arcore.layers.cursor import ImageCursor, LayerCall


class TwoStackModel(RasterModel):
    """A raster model of two stacks, which leave no blind spot.

    A vertical stack knows the rows above the pixel, whole; a horizontal one the pixel's own row. A
    subclass writes both. The image is shifted one row down before it enters the vertical stack, so
    that row r of it knows the rows above r.
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
        column, links = cursor.column, cursor.state(self, list[Tensor])
        if column == 0:
            links[:] = self._row_links(features, maps, cursor)
        here = [link[..., column : column + 1] for link in links]
        return self._horizontal(cursor.piece(features), here, maps, cursor)
