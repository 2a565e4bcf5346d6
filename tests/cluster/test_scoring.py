"""Scoring over two hosts: the digits of one, in little more than half the time."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from pipeline.data import preprocessing
from pipeline.datasets import catalog
from pipeline.datasets.base import SplitData
from tests.support.clusters import Cluster, ClusterProject
from tests.support.hosts import end

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(420)]
ROWS, LEAST = 10_000, 1.7
SHARE = 0.4  # of a CPU, that each host has, so that both have theirs on a machine with one
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
def fair(two_hosts: Cluster, project: ClusterProject) -> bool:
    """Give each host its share of a CPU, once the model is trained; False where it cannot be."""
    return all([host.share_cpu(SHARE) for host in (two_hosts.head, two_hosts.worker)])


@pytest.fixture(scope="module")
def alone(project: ClusterProject, fair: bool) -> dict[str, Any]:
    """What one process on the head measures."""
    return evaluated(project)


def overrides(project: ClusterProject) -> list[str]:
    return [
        "cluster.num_workers=2",
        "cluster.cpus_per_worker=1",
        f"cluster.storage={project.folder}/storage",
    ]


def outcome(project: ClusterProject) -> dict[str, Any]:
    folder = "evaluation/digits_binary/orderless"
    return {
        "metrics": project.json(f"{folder}/metrics.json"),
        "scores": (project.folder / folder / "scores.csv").read_text(),
        "seconds": project.json(f"{folder}/timing.json")["evaluate_seconds"],
    }


def evaluated(project: ClusterProject, *arguments: str) -> dict[str, Any]:
    began = time.monotonic()
    done = project.stage("evaluate", "orderless", *arguments)
    assert done.returncode == 0, done.stderr
    return outcome(project) | {"stage_seconds": time.monotonic() - began}


def require_same_digits(found: dict[str, Any], alone: dict[str, Any]) -> None:
    for key in ("metrics", "scores"):
        assert found[key] == alone[key]
    assert found["scores"].count("\n") == ROWS + 1


def test_two_hosts_score_the_digits_of_one_sooner(
    two_hosts: Cluster, project: ClusterProject, fair: bool, alone: dict[str, Any]
) -> None:
    """Both hosts have the same share of a CPU, so that one more host is one more share."""
    with two_hosts.one_cpu_held_on_each():
        both = evaluated(project, *overrides(project))
    require_same_digits(both, alone)
    scoring, stage = (alone[key] / both[key] for key in ("seconds", "stage_seconds"))
    print(
        f"\n{ROWS} rows: {alone['seconds']:.1f} s on one host, {both['seconds']:.1f} s on two, "
        f"{scoring:.2f} times as fast; the whole stage {alone['stage_seconds']:.1f} s and "
        f"{both['stage_seconds']:.1f} s, {stage:.2f} times"
    )
    if not fair:
        pytest.skip("the digits are the same; a share of a CPU for each host needs a cgroup of it")
    assert scoring >= LEAST


def test_a_killed_worker_on_the_second_host_changes_no_digit(
    two_hosts: Cluster, project: ClusterProject, alone: dict[str, Any]
) -> None:
    with two_hosts.one_cpu_held_on_each():
        process = project.start("evaluate", "orderless", *overrides(project))
        try:
            hosts = two_hosts.head, two_hosts.worker
            project.wait_until(
                lambda: (
                    process.poll() is not None
                    or all(host.named("ScoringWork.do") for host in hosts)
                ),
                "both hosts score",
            )
            assert process.poll() is None, project.log()
            two_hosts.worker.named("ScoringWork")[0].kill()
            assert process.wait(timeout=300) == 0, project.log()
        finally:
            end(process)
    assert "a worker was lost; another does its part" in project.log()
    require_same_digits(outcome(project), alone)
