"""Two hosts with one Ray, and projects whose stages run on the head."""

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.support.hosts import Host, end
from tests.support.projects import Project

# Keeps one CPU of each host until a line comes, so that two workers find one on each.
HOLD = """
import ray
from ray.util.placement_group import placement_group
ray.init(log_to_driver=False, logging_level="ERROR")
ray.get(placement_group([{"CPU": 1}, {"CPU": 1}], strategy="STRICT_SPREAD").ready())
print("held", flush=True)
input()
"""
ALIVE = """
import ray
ray.init(log_to_driver=False, logging_level="ERROR")
print(sorted(node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]))
"""


class Cluster:
    """A Ray of a head and a worker with two CPUs each."""

    def __init__(self, head: Host, worker: Host) -> None:
        self.head, self.worker = head, worker

    @property
    def addresses(self) -> list[str]:
        return sorted([self.head.address, self.worker.address])

    def python(self, script: str) -> str:
        done = self.head.run(
            sys.executable, "-c", script, env={"RAY_ADDRESS": self.head.ray_address}
        )
        return done.stdout.strip()

    def start(self, num_cpus: int = 2) -> None:
        head = self.head.start_ray_head(num_cpus)
        worker = self.worker.start_ray_worker(self.head, num_cpus)
        print(f"\nhead ready in {head:.1f} s, worker in {worker:.1f} s")

    def restart_worker(self) -> None:
        """Start Ray anew on the worker, and wait until no host is lost and none is double."""
        self.worker.kill_ray()
        seconds = self.worker.start_ray_worker(self.head)
        deadline = time.monotonic() + 60
        while (alive := self.python(ALIVE)) != str(self.addresses):
            assert time.monotonic() < deadline, alive
            time.sleep(0.5)
        print(f"\nworker ready in {seconds:.1f} s")

    def drain_worker(self, seconds: int) -> None:
        """Announce that the worker's node goes away, as a cloud does of a reclaimed instance."""
        self.worker.run(
            sys.executable, "-m", "ray.scripts.scripts", "drain-node",
            f"--address={self.head.ray_address}", "--reason=DRAIN_NODE_REASON_PREEMPTION",
            "--reason-message=reclaimed", f"--deadline-remaining-seconds={seconds}",
        )  # fmt: skip

    def stop(self) -> None:
        self.worker.kill_ray()
        self.head.kill_ray()

    @contextlib.contextmanager
    def one_cpu_held_on_each(self) -> Iterator[Callable[[], None]]:
        """Two workers of one CPU must spread over the hosts; yields what ends that early."""
        process = self.head.popen(
            sys.executable, "-c", HOLD,
            env={"RAY_ADDRESS": self.head.ray_address},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        assert process.stdin is not None and process.stdout is not None

        def release() -> None:
            if process.poll() is None:
                process.communicate("\n", timeout=60)

        try:
            line = process.stdout.readline()
            assert line == "held\n", line + process.stdout.read()
            yield release
            release()
        finally:
            end(process)
            process.stdin.close()
            process.stdout.close()


class ClusterProject(Project):
    """A project in a folder that all hosts share; its stages run on the head."""

    def __init__(self, folder: Path, cluster: Cluster) -> None:
        super().__init__(folder)
        self.cluster = cluster

    @property
    def overrides(self) -> list[str]:
        """What gives a stage two workers and the storage of all who share the folder."""
        cluster = {"num_workers": 2, "cpus_per_worker": 1, "storage": f"{self.folder}/storage"}
        return [f"cluster.{name}={value}" for name, value in cluster.items()]

    def environment(self, **extra: str) -> dict[str, str]:
        own = {
            "PYTHONPATH": str(self.code),
            "ARCORE_HOME": str(self.folder),
            "RAY_ADDRESS": self.cluster.head.ray_address,
        }
        return own | extra

    def run(
        self, *command: str, timeout: float = 300.0, **extra: str
    ) -> subprocess.CompletedProcess[str]:
        return self.cluster.head.run(
            *command, timeout=timeout, env=self.environment(**extra), cwd=self.folder, check=False
        )

    def start(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        with open(self.folder / "stage.log", "wb") as log:
            return self.cluster.head.popen(
                sys.executable, "-m", f"stages.{name}", *arguments,
                env=self.environment(),
                cwd=self.folder,
                stdout=log,
                stderr=subprocess.STDOUT,
            )  # fmt: skip
