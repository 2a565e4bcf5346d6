"""Shards of a few rows, and training on them."""

import contextlib
import gc
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from pipeline.cluster import connection
from pipeline.data import preprocessing
from pipeline.datasets import catalog
from pipeline.datasets.base import SplitData
from tests.support.workers import Worker


@pytest.fixture(scope="session")
def few_digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of shards of 96 training, 24 validation and 24 test rows of the digits' shape."""
    dataset = catalog.get_dataset({"name": "digits_binary"})
    generator = np.random.default_rng(0)
    shape = generator.random((1, 8, 8)) * 0.9

    def split(rows: int) -> SplitData:
        x = (generator.random((rows, 1, 8, 8)) < shape).astype(np.uint8)
        return SplitData(x, generator.integers(0, 10, rows), None)

    folder = tmp_path_factory.mktemp("shards") / "digits_binary"
    return preprocessing.write(
        dataset, {"train": split(96), "valid": split(24), "test": split(24)}, folder
    )


@pytest.fixture
def write_project(workdir: Path, few_digits: Path) -> Callable[..., None]:
    """A function that writes params.yaml of some experiments next to the few digits."""

    def write(**experiments: dict[str, Any]) -> None:
        shutil.copytree(few_digits, "data/shards/digits_binary")
        Path("params.yaml").write_text(yaml.safe_dump({"experiments": experiments}))

    return write


@pytest.fixture
def make_worker(tmp_path_factory: pytest.TempPathFactory, few_digits: Path) -> Callable[[], Worker]:
    def make() -> Worker:
        return Worker(tmp_path_factory.mktemp("checkpoints"), few_digits)

    return make


@pytest.fixture(scope="session")
def own_ray() -> Iterator[None]:
    """One Ray in the tests' own process, which forgets its daemons without waiting for them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        with connection.connected():
            patch.setattr(connection, "connected", contextlib.nullcontext)
            yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
