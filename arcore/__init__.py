"""Autoregressive density models in PyTorch.

Example:
    >>> import torch, arcore
    >>> model = arcore.create_model("nade", arcore.events.Binary((1, 8, 8)))
    >>> nats = -model.log_prob(torch.zeros(2, 1, 8, 8))
    >>> images = model.sample(4)
"""

from arcore import events, units
from arcore.decoding import Decoder
from arcore.ensembles import Ensemble
from arcore.model import AutoregressiveModel
from arcore.primitives import orderings
from arcore.zoo import create_model, list_models

__all__ = [
    "AutoregressiveModel",
    "Decoder",
    "Ensemble",
    "create_model",
    "events",
    "list_models",
    "orderings",
    "units",
]
