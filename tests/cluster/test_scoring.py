"""Scoring over two hosts: the digits of one."""

from typing import Any

import numpy as np
import pytest

from pipeline.data import preprocessing
from pipeline.datasets import catalog
from pipeline.datasets.base import SplitData
from tests.support.clusters import Cluster, ClusterProject
from tests.support.hosts import end

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(420)]
ROWS = 10_000
ORDERLESS = {
    "dataset": "digits_binary",
    "model": "deep_nade",
    "model_overrides": {"hidden": [300, 300], "num_orderings": 14},
    "trainer": {"max_epochs": 1},
    "evaluation": {"num_members": 14, "num_samples": 4},
}


@pytest.fixture(scope="module")
def project(two_hosts: Cluster, cluster_project: Any) -> ClusterProject:
    """A trained ensemble over orderings, and many test rows: digits with a bit flipped in each."""
    project = cluster_project({"orderless": ORDERLESS})
    dataset = catalog.get_dataset({"name": "digits_binary"})
    splits = dict(dataset.decode(project.folder))
    train = splits["train"]
    assert isinstance(train, SplitData) and train.labels is not None
    generator = np.random.default_rng(18)
    chosen = generator.integers(len(train), size=ROWS)
    x = train.x[chosen]
    x.reshape(ROWS, -1)[np.arange(ROWS), generator.integers(x[0].size, size=ROWS)] ^= 1
    splits = {"train": train, "valid": splits["valid"], "test": SplitData(x, train.labels[chosen])}
    preprocessing.write(dataset, splits, project.folder / "data/shards/digits_binary")
    done = project.stage("train", "orderless", "cluster.cpus_per_worker=1")
    assert done.returncode == 0, done.stderr
    return project


@pytest.fixture(scope="module")
def alone(project: ClusterProject) -> dict[str, Any]:
    return evaluated(project)


def outcome(project: ClusterProject) -> dict[str, Any]:
    folder = "evaluation/digits_binary/orderless"
    return {
        "metrics": project.json(f"{folder}/metrics.json"),
        "scores": (project.folder / folder / "scores.csv").read_text(),
    }


def evaluated(project: ClusterProject, *arguments: str) -> dict[str, Any]:
    done = project.stage("evaluate", "orderless", *arguments)
    assert done.returncode == 0, done.stderr
    return outcome(project)


def test_two_hosts_score_the_digits_of_one(
    two_hosts: Cluster, project: ClusterProject, alone: dict[str, Any]
) -> None:
    with two_hosts.one_cpu_held_on_each():
        assert evaluated(project, *project.overrides) == alone
    assert alone["scores"].count("\n") == ROWS + 1


def test_a_killed_worker_on_the_second_host_changes_no_digit(
    two_hosts: Cluster, project: ClusterProject, alone: dict[str, Any]
) -> None:
    with two_hosts.one_cpu_held_on_each():
        process = project.start("evaluate", "orderless", *project.overrides)
        try:
            hosts = two_hosts.head, two_hosts.worker
            project.wait_until(
                lambda: (
                    process.poll() is not None
                    or all(host.named("ray::ScoringWork") for host in hosts)
                ),
                "both hosts score",
            )
            assert process.poll() is None, project.log()
            two_hosts.worker.named("ray::ScoringWork")[0].kill()
            assert process.wait(timeout=300) == 0, project.log()
        finally:
            end(process)
    assert outcome(project) == alone
