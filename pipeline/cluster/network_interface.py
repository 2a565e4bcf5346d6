"""Which network interface the workers of a training talk over, by gloo or NCCL."""

import os
from typing import Any

import psutil
import ray
from ray.train.torch import TorchConfig


class ByAddress(TorchConfig):  # type: ignore[misc]
    """Let gloo and NCCL use the interface with Ray's address of the node.

    By itself gloo takes the address that the hostname stands for, which is loopback on many hosts,
    and NCCL the first interface that it likes.
    A worker alone gets no process group, whose store would listen on all interfaces.
    """

    @property
    def backend_cls(self) -> type:
        """Return what starts the process group."""
        return Backend


class Backend(TorchConfig().backend_cls):  # type: ignore[misc]
    """Ray Train's backend for torch, started over the right interface, or not at all."""

    def on_start(self, worker_group: Any, backend_config: ByAddress) -> None:
        """Start a process group among several workers."""
        if len(worker_group) > 1:
            worker_group.execute(choose_interface)
            super().on_start(worker_group, backend_config)


def choose_interface() -> None:
    """Set GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME, unless they are set."""
    address = ray.util.get_node_ip_address()
    for name, addresses in psutil.net_if_addrs().items():
        if any(found.address == address for found in addresses):
            os.environ.setdefault("GLOO_SOCKET_IFNAME", name)
            os.environ.setdefault("NCCL_SOCKET_IFNAME", f"={name}")  # else whatever begins so
