"""Modules whose masks and orderings follow from hyperparameters, so that no file holds them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn


class DerivedBuffers(nn.Module):
    """A module that computes such buffers again where its weights leave the meta device.

    `to_empty` leaves garbage in them, and `load_state_dict(assign=True)` leaves them behind.
    """

    def _rebuild(self) -> None:
        """Compute again what follows from the hyperparameters alone (masks, orderings)."""

    def _where(self) -> torch.device:
        return next(self.parameters()).device

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        was_meta = self._where().type == "meta"
        super()._apply(fn, recurse)
        if was_meta and self._where().type != "meta":
            self._rebuild()
        return self

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Load weights as torch does."""
        was_meta = self._where().type == "meta"
        missing = super().load_state_dict(state_dict, strict, assign)
        if was_meta and self._where().type != "meta":
            for module in self.modules():
                if isinstance(module, DerivedBuffers):
                    module._rebuild()
        return missing
