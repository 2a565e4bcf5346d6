"""Where the shared storage is: what a worker, in a folder of its own, takes for the same place."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.cluster import shared_storage
from pipeline.experiments.schema import ClusterConfig


@pytest.mark.parametrize("by", ["config", "environment"])
def test_a_folder_is_absolute(workdir: Path, monkeypatch: pytest.MonkeyPatch, by: str) -> None:
    config = ClusterConfig(storage="storage" if by == "config" else None)
    if by == "environment":
        monkeypatch.setenv("ARCORE_STORAGE", "storage")
    assert shared_storage.shared_storage(config) == str(workdir / "storage")
    assert shared_storage.storage_of(config) == str(workdir / "storage")


@pytest.mark.parametrize("place", ["/mnt/arcore", "s3://bucket/arcore?scheme=http"])
def test_what_is_absolute_already_stays(workdir: Path, place: str) -> None:
    assert shared_storage.shared_storage(ClusterConfig(storage=place)) == place


def test_none_is_none(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCORE_STORAGE", "")
    assert shared_storage.shared_storage(ClusterConfig()) is None
