"""The meta device as an accelerator that cannot be waited for.

It has no values: whatever reads one raises. Copies to it are seen by a dispatch mode.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

META = torch.device("meta")


# what asks CUDA for values, and meta for none
ASKING = (
    torch.ops.aten.multinomial.default,
    torch.ops.aten.normal.Tensor_Tensor,
    torch.ops.aten.normal.Tensor_float,
    torch.ops.aten.normal.float_Tensor,
)
INDEXED = (
    torch.ops.aten.index.Tensor,
    torch.ops.aten.index_put.default,
    torch.ops.aten.index_put_.default,
    torch.ops.aten._unsafe_index_put.default,
)


def making_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse tensors of the host's values on the device, for which torch copies nothing to meta."""
    for name in ("tensor", "as_tensor"):
        made = getattr(torch, name)

        def make(*args: Any, made: Callable[..., Tensor] = made, **kwargs: Any) -> Tensor:
            assert kwargs.get("device") != META, "a tensor of the host's values, without to_device"
            return made(*args, **kwargs)

        monkeypatch.setattr(torch, name, make)


class NoWaitingCopies(TorchDispatchMode):
    """Refuses copies from the host to the device that are not asynchronous, and hidden ones.

    Arguments:
        at_all: whether to refuse asynchronous ones too, which no CUDA graph can repeat.
    """

    def __init__(self, at_all: bool = False) -> None:
        super().__init__()
        self.at_all = at_all

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        copied = {
            torch.ops.aten._to_copy.default: lambda: (args[0], kwargs.get("device")),
            torch.ops.aten.copy_.default: lambda: (args[1], args[0].device),
        }.get(function)
        if copied is not None:
            source, target = copied()
            if source.device.type == "cpu" and target == META:
                asynchronous = kwargs.get("non_blocking") and not self.at_all
                assert asynchronous, (function, source.shape)
        elif function in (*ASKING, *INDEXED):
            tensors = [x for x in pytree.tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
            if any(x.is_meta for x in tensors):
                assert function not in ASKING, function
                assert all(x.is_meta or not x.dim() for x in tensors), (function, "of the host")
                masks = [x for x in args[1] if x is not None and x.dtype == torch.bool]
                assert not masks, (function, "a mask")
        return function(*args, **kwargs)
