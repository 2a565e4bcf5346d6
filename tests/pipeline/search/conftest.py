"""Searches as params.yaml has them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.search import spec


@pytest.fixture
def load(workdir: Path, request: pytest.FixtureRequest) -> Callable[..., spec.Search]:
    """A function that writes params.yaml with a search, the module's `ENTRY`, and loads it."""

    def load(*overrides: str, **changes: Any) -> spec.Search:
        params = {"experiments": {}, "searches": {"toy": request.module.ENTRY | changes}}
        Path("params.yaml").write_text(yaml.safe_dump(params))
        return spec.load_search("toy", overrides)

    return load
