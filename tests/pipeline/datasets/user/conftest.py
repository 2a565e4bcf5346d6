"""A working directory, and a folder for conf files that tests write."""

from pathlib import Path

import pytest

from pipeline.datasets import catalog


@pytest.fixture(autouse=True)
def conf(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = workdir / "conf"
    folder.mkdir()
    monkeypatch.setattr(catalog, "CONF_FOLDER", folder)
    return folder
