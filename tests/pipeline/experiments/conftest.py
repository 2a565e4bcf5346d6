"""One experiment, composed from what a test says of it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.experiments import compose
from pipeline.experiments.schema import ExperimentConfig


@pytest.fixture
def toy(workdir: Path) -> Callable[..., ExperimentConfig]:
    """A function that writes params.yaml with one experiment, `toy`, and composes it."""

    def load(*overrides: str, **entry: Any) -> ExperimentConfig:
        entry = {"dataset": "digits", "model": "made"} | entry
        Path("params.yaml").write_text(yaml.safe_dump({"experiments": {"toy": entry}}))
        return compose.load("toy", overrides)

    return load
