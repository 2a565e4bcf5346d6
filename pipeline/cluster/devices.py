"""The device of what a stage computes in its own process."""

from __future__ import annotations

import torch

from pipeline.core.errors import UserError
from pipeline.experiments import groups
from pipeline.experiments.schema import ClusterConfig


def local_device(config: ClusterConfig | None = None) -> torch.device:
    """Return the device of a stage's own process: a GPU if one is asked for (`cluster.use_gpu`).

    Arguments:
        config: None for that of ARCORE_CLUSTER.

    Raises:
        UserError: if a GPU is asked for and there is none.

    Example:
        >>> local_device(ClusterConfig(use_gpu=False))
        device(type='cpu')
    """
    asked = (config or groups.load_cluster([])).use_gpu
    if asked and not torch.cuda.is_available():
        raise UserError("cluster.use_gpu: expected a CUDA device on this machine, got none")
    return torch.device("cuda" if asked else "cpu")
