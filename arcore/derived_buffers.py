"""Buffers that follow from hyperparameters, so that no file holds them, and views of weights."""

import copy
from collections.abc import Mapping
from typing import Any, TypeVar

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


Module = TypeVar("Module", bound=nn.Module)


def shared(module: Module) -> Module:
    """Copy a tree of modules, sharing parameters but neither buffers nor whether it is trained."""
    view = copy.copy(module)
    view._buffers = dict(module._buffers)
    view._modules = {
        name: None if child is None else shared(child) for name, child in module._modules.items()
    }
    return view
