"""Small models on digits, and the uses that params.yaml lists for them."""

from pathlib import Path
from typing import Any

import yaml

TOY: dict[str, Any] = {"dataset": "digits_binary", "trainer": {"max_epochs": 1, "batch_size": 100}}
SMALL: dict[str, dict[str, Any]] = {
    "nade": {"hidden": 16},
    "made": {"hidden": [64], "num_masks": 0, "order_agnostic": True},
    "gated_pixelcnn": {"width": 4, "num_layers": 1, "head_width": 4, "num_classes": 10},
    "parallel_multiscale": {
        "base_size": 2, "width": 4, "num_blocks": 1, "base_width": 4, "base_layers": 1,
        "head_width": 4,
    },
    "pixelvae": {"num_levels": 2, "encoder": [4], "width": 4, "num_layers": 1},
}  # fmt: skip
EXPERIMENTS = {
    f"toy-{name}": TOY | {"model": name, "model_overrides": small} for name, small in SMALL.items()
}


def list_uses(**uses: dict[str, dict[str, Any]]) -> None:
    """Write an entry of `uses` for each model of the project that is named."""
    path = Path("params.yaml")
    params = yaml.safe_load(path.read_text())
    params["uses"] = {
        f"toy-{model}": {"dataset": "digits_binary", "model": model, "uses": listed}
        for model, listed in uses.items()
    }
    path.write_text(yaml.safe_dump(params))
