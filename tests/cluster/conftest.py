"""Two hosts with one Ray, and projects whose stages run on the head."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.clusters import Cluster, ClusterProject
from tests.support.hosts import Network, unsupported
from tests.support.projects import Project


@pytest.fixture(scope="session")
def allowed() -> None:
    reason = unsupported()
    if reason is not None:
        pytest.skip(reason)


@pytest.fixture(scope="module")
def network(allowed: None) -> Iterator[Network]:
    with Network(2) as network:
        yield network


@pytest.fixture(scope="module")
def two_hosts(network: Network) -> Iterator[Cluster]:
    """A head and a worker; a test that breaks them puts them right again."""
    cluster = Cluster(*network.hosts)
    cluster.start()
    yield cluster
    cluster.stop()


@pytest.fixture(scope="module")
def cluster_project(
    two_hosts: Cluster, make_project: Callable[[dict[str, Any]], Project]
) -> Callable[[dict[str, Any]], ClusterProject]:
    def make(experiments: dict[str, Any]) -> ClusterProject:
        return ClusterProject(make_project(experiments).folder, two_hosts)

    return make
