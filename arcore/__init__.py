"""Autoregressive density models in PyTorch.

Example:
    >>> import torch, arcore
    >>> model = arcore.create_model("nade", arcore.events.Binary((1, 8, 8)))
    >>> nats = -model.log_prob(torch.zeros(2, 1, 8, 8))
    >>> images = model.sample(4)
"""

from __future__ import annotations

from arcore import coding, events, units
from arcore.decoding import Decoder
from arcore.ensembles import Ensemble
from arcore.mixtures import Mixture
from arcore.model import AutoregressiveModel
from arcore.pools import Pool
from arcore.primitives import orderings
from arcore.process_tuning import tune_process
from arcore.saving import load, save
from arcore.symmetries import Transformed
from arcore.zoo import create_model, list_models

__all__ = [
    "AutoregressiveModel",
    "Decoder",
    "Ensemble",
    "Mixture",
    "Pool",
    "Transformed",
    "__version__",
    "coding",
    "create_model",
    "events",
    "list_models",
    "load",
    "orderings",
    "save",
    "tune_process",
    "units",
]


def __getattr__(name: str) -> str:
    """Find `__version__` when it is asked for: a checkout's own, else the installed package's."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib.metadata
    import tomllib
    from pathlib import Path

    checkout = Path(__file__).parent.with_name("pyproject.toml")
    if checkout.is_file():
        project = tomllib.loads(checkout.read_text(encoding="utf-8")).get("project", {})
        if project.get("name") == __name__:
            return str(project["version"])
    return importlib.metadata.version(__name__)
