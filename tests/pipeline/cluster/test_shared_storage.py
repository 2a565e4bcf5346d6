"""Where the shared storage is: what a worker, in a folder of its own, takes for the same place."""

from pathlib import Path

import pytest

from pipeline.cluster import shared_storage
from pipeline.experiments.schema import ClusterConfig


@pytest.mark.parametrize(
    ("place", "absolute"),
    [
        ("storage", "{here}/storage"),
        ("/mnt/arcore", "/mnt/arcore"),
        ("s3://bucket/arcore?scheme=http", "s3://bucket/arcore?scheme=http"),
    ],
)
@pytest.mark.parametrize("by", ["config", "environment"])
def test_a_place_is_absolute(
    workdir: Path, monkeypatch: pytest.MonkeyPatch, place: str, absolute: str, by: str
) -> None:
    monkeypatch.setenv("ARCORE_STORAGE", "" if by == "config" else place)
    config = ClusterConfig(storage=place if by == "config" else None)
    assert shared_storage.shared_storage(config) == absolute.format(here=workdir)
    assert shared_storage.storage_of(config) == absolute.format(here=workdir)
    monkeypatch.setenv("ARCORE_STORAGE", "")
    assert shared_storage.shared_storage(ClusterConfig()) is None
