"""The device of what a stage computes in its own process, and what it computes there."""

import logging
import os

import torch

from pipeline.core.errors import UserError
from pipeline.experiments import groups
from pipeline.experiments.schema import ClusterConfig

log = logging.getLogger(__name__)


def exact(device: torch.device) -> torch.device:
    """Return a device whose products are float32's, not TF32's, and the same at each run.

    Otherwise scores that convolve and decoders that multiply matrices would differ in the fourth
    digit.
    """
    if device.type == "cuda":
        torch.set_float32_matmul_precision("highest")
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.deterministic = True
    return device


def local_device(cluster: ClusterConfig | None = None) -> torch.device:
    """Return the device of a stage's own process: a GPU if one is asked for (`cluster.use_gpu`).

    The head of a cluster (RAY_ADDRESS) may have no GPU, and then computes on its processor what its
    workers do not.
    """
    asked = (cluster or groups.load_cluster([])).use_gpu
    if asked and not torch.cuda.is_available():
        if not os.environ.get("RAY_ADDRESS"):
            raise UserError("cluster.use_gpu: expected a CUDA device on this machine, got none")
        log.warning("cluster.use_gpu: this machine has no CUDA device; its processor computes")
        asked = False
    return exact(torch.device("cuda" if asked else "cpu"))
