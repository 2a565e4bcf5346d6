"""A working directory, where descriptions of datasets are written."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def here(workdir: Path) -> Path:
    return workdir
