"""Groups of files: the cluster of a run without a model."""

from __future__ import annotations

import pytest

from pipeline.core.errors import UserError
from pipeline.experiments.groups import load_cluster
from pipeline.experiments.schema import ClusterConfig


def test_the_cluster_is_that_of_the_variable_and_of_overrides(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert load_cluster([]) == ClusterConfig()
    assert load_cluster(["cluster=gpu", "cluster.num_workers=3"]).use_gpu
    monkeypatch.setenv("ARCORE_CLUSTER", "gpu")
    assert load_cluster([]).use_gpu
    for given, message in (
        (["cluster=none"], "unknown cluster 'none'"),
        (["cluster.workers=2"], "unknown parameter of cluster 'workers'"),
        (["cluster.num_workers=two"], "cluster.num_workers: expected an integer, got 'two'"),
    ):
        with pytest.raises(UserError, match=message):
            load_cluster(given)
