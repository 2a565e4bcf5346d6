"""Two nodes of one CPU each on loopback: the same bytes as on one node, also when one is lost.

A node is what one `ray start` started. What needs hosts of their own is in tests/cluster.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.projects import PATIENCE, WIDE, Project, result

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="binds 127.0.0.2 and .3")
LONG = WIDE | {"trainer": WIDE["trainer"] | {"max_epochs": 4, "batch_size": 20}}
# Ray takes 127.0.0.1 for "any address of this machine".
HEAD, OTHER = "127.0.0.2", "127.0.0.3"
LIGHT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_enable_metrics_collection": "0",
    "RAY_enable_worker_prestart": "0",
    "RAY_prestart_worker_first_driver": "0",
    "RAY_worker_niceness": "0",
    # A node that is gone refuses connections at once, and is given up after 3 seconds of that.
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(16),
}


class Node:
    """What one `ray start` started; it has one CPU.

    Arguments:
        folder: for its sockets and logs; their paths must be short.
        options: of `ray start`.
    """

    def __init__(self, folder: Path, *options: str) -> None:
        self._folder = folder
        dropped = ("ARCORE_", "MLFLOW_", "RAY_", "OMP_NUM_THREADS")
        kept = {k: v for k, v in os.environ.items() if not k.startswith(dropped)}
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        with open(folder / "start.log", "wb") as log:
            self._process = subprocess.Popen(
                [
                    "ray", "start", "--block", "--num-cpus=1", "--dashboard-agent-listen-port=0",
                    f"--temp-dir={folder}", "--object-store-memory=100000000", *options,
                ],
                env=kept | LIGHT | {"PATH": path},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip

    def wait(self) -> None:
        """Wait until it has joined."""
        deadline = time.monotonic() + PATIENCE
        while "Ray runtime started" not in (log := (self._folder / "start.log").read_text()):
            assert self._process.poll() is None and time.monotonic() < deadline, log
            time.sleep(0.1)

    def alive(self) -> bool:
        """Tell whether it was not killed."""
        return self._process.poll() is None

    def kill(self) -> None:
        """Kill all its processes at once."""
        while ours := [p for p in psutil.pids() if _session(p) == self._process.pid]:
            for pid in ours:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._process.wait()
            time.sleep(0.05)


def _session(pid: int) -> int:
    """The session of a process, or 0 for one that is gone or waits for its parent."""
    try:
        alive = psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
        return os.getsid(pid) if alive else 0
    except (psutil.NoSuchProcess, ProcessLookupError):
        return 0


class Nodes:
    """A head and another node, which can be lost and added again."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind((HEAD, 0))
            self.address = f"{HEAD}:{free.getsockname()[1]}"
        self._folder, self._started = folder, list[Node]()

    def start(self) -> None:
        """Start both and wait for them."""
        port = self.address.rpartition(":")[2]
        options = ("--head", f"--port={port}", "--include-dashboard=false")
        self._start(HEAD, *options).wait()
        self.add().wait()

    def add(self) -> Node:
        """Start the other node; it joins in a few seconds."""
        self._other = self._start(OTHER, f"--address={self.address}")
        return self._other

    def lose(self) -> None:
        """Kill the other node."""
        self._other.kill()

    def restore(self) -> None:
        """Start the other node anew if it was lost, and wait for it."""
        if not self._other.alive():
            self.add().wait()

    def _start(self, address: str, *options: str) -> Node:
        folder = self._folder / str(len(self._started))
        folder.mkdir()
        node = Node(folder, f"--node-ip-address={address}", *options)
        self._started.append(node)
        return node

    def close(self) -> None:
        for node in reversed(self._started):
            node.kill()


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    if (os.cpu_count() or 1) < 2:
        pytest.skip("two workers need two CPUs")
    folder = Path(tempfile.mkdtemp(prefix="nodes", dir="/tmp"))
    nodes = Nodes(folder)
    try:
        nodes.start()
        yield nodes
    finally:
        nodes.close()
        shutil.rmtree(folder)


class NodesProject(Project):
    """A project whose stages run on the two nodes."""

    def __init__(self, folder: Path, nodes: Nodes) -> None:
        super().__init__(folder)
        self.nodes = nodes

    def environment(self, **extra: str) -> dict[str, str]:
        return super().environment(**LIGHT, RAY_ADDRESS=self.nodes.address, **extra)


@pytest.fixture
def project(nodes: Nodes, make_project: Callable[[dict[str, Any]], Project]) -> NodesProject:
    """A new project, with both nodes there."""
    nodes.restore()
    return NodesProject(make_project({"wide": LONG}).folder, nodes)


def overrides(project: Project, *more: str) -> list[str]:
    storage = f"cluster.storage={project.folder}/storage"
    return ["wide", "cluster.num_workers=2", "cluster.cpus_per_worker=1", storage, *more]


@pytest.fixture(scope="module")
def undisturbed(make_project: Callable[[dict[str, Any]], Project]) -> Project:
    """A project with `wide` trained by two workers of one embedded Ray of two CPUs."""
    project = make_project({"wide": LONG})
    done = project.stage("train", *overrides(project))
    assert done.returncode == 0, done.stderr
    return project


@contextlib.contextmanager
def training(project: NodesProject, *more: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start training on both nodes and yield in its mid."""
    process = project.start("train", *overrides(project, *more))
    try:
        project.wait_until(
            lambda: process.poll() is not None or "epoch 1/" in project.log(), "epoch 1 is done"
        )
        assert process.poll() is None, project.log()
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def require_ends_well(process: subprocess.Popen[bytes], project: NodesProject) -> None:
    assert process.wait(timeout=PATIENCE) == 0, project.log()
    assert list((project.folder / "storage/train").iterdir()) == []
    (run,) = project.runs()
    assert run.info.status == "FINISHED"


def test_two_nodes_end_with_the_bytes_of_one(
    nodes: Nodes, undisturbed: Project, project: NodesProject
) -> None:
    with training(project) as process:
        require_ends_well(process, project)
    assert "resumes" not in project.log()
    (placed,) = re.findall(r"2 workers: (.*)", project.log())
    assert sorted(placed.split(", ")) == [HEAD, OTHER]
    assert result(project) == result(undisturbed)
    (published,) = (project.folder / "storage/shards").iterdir()
    shards = project.folder / "data/shards/digits_binary"
    names = sorted(path.name for path in shards.iterdir())
    assert sorted(path.name for path in published.iterdir()) == names
    assert all((published / name).read_bytes() == (shards / name).read_bytes() for name in names)


@pytest.mark.slow
def test_a_training_goes_on_with_the_node_that_is_left(
    nodes: Nodes, undisturbed: Project, project: NodesProject
) -> None:
    with training(project, "cluster.min_workers=1") as process:
        nodes.lose()
        require_ends_well(process, project)
    assert "2 workers: " in project.log() and "resumes after epoch" in project.log()
    assert project.json("models/wide/training.json")["num_workers"] == 1
    *_, (last, same_last) = zip(result(project)[2], result(undisturbed)[2], strict=True)
    assert float(last["valid_nats"]) == pytest.approx(float(same_last["valid_nats"]), rel=1e-3)


@pytest.mark.slow
def test_a_training_waits_for_a_node_in_place_of_a_lost_one(
    nodes: Nodes, undisturbed: Project, project: NodesProject
) -> None:
    with training(project) as process:
        nodes.lose()
        nodes.add()
        require_ends_well(process, project)
    assert project.log().count("2 workers: ") == 2 and "resumes after epoch" in project.log()
    assert result(project) == result(undisturbed)
