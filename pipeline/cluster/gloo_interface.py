"""Which network interface the workers of a training talk over."""

from __future__ import annotations

import os
from typing import Any

import psutil
import ray
from ray.train.torch import TorchConfig
from ray.train.torch.config import _TorchBackend


class ByAddress(TorchConfig):  # type: ignore[misc]
    """Let gloo use the interface with Ray's address of the node.

    By itself it takes the address that the hostname stands for, which is loopback on many hosts.
    A worker alone gets no process group, whose store would listen on all interfaces.
    """

    @property
    def backend_cls(self) -> Any:
        """Return what starts the process group."""
        return _Backend


class _Backend(_TorchBackend):  # type: ignore[misc]
    def on_start(self, worker_group: Any, backend_config: Any) -> None:
        if len(worker_group) > 1:
            worker_group.execute(choose_interface)
            super().on_start(worker_group, backend_config)


def choose_interface() -> None:
    """Set GLOO_SOCKET_IFNAME, unless it is set."""
    address = ray.util.get_node_ip_address()
    for name, addresses in psutil.net_if_addrs().items():
        if any(found.address == address for found in addresses):
            os.environ.setdefault("GLOO_SOCKET_IFNAME", name)
