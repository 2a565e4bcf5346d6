"""The meta device as an accelerator that cannot be waited for.

It has no values: whatever reads one raises. Copies to it are seen by a dispatch mode.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

META = torch.device("meta")


class NoWaitingCopies(TorchDispatchMode):
    """Refuses copies from the host to the device that are not asynchronous.

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
        return function(*args, **kwargs)
