"""Training over two hosts: the same bytes as on one, whatever happens to the hosts.

Each host has two CPUs. One CPU of each is held, so that two workers find one on each host, until a
test lets them be on one.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from pipeline.experiments import layout
from tests.places import ROOT
from tests.support.checkouts import commit
from tests.support.clusters import Cluster, ClusterProject
from tests.support.hosts import Network, end
from tests.support.projects import LONG, result

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(420)]


@pytest.fixture
def project(cluster_project) -> ClusterProject:
    return cluster_project({"wide": LONG})


@pytest.fixture(scope="module")
def undisturbed(two_hosts: Cluster, cluster_project) -> ClusterProject:
    project = cluster_project({"wide": LONG})
    done = project.stage("train", "wide", *project.overrides)
    assert done.returncode == 0, done.stderr
    (project.folder / "stage.log").write_text(done.stdout + done.stderr)
    assert project.stage("evaluate", "wide").returncode == 0
    return project


@contextlib.contextmanager
def training(project: ClusterProject, *more: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start training with a worker on each host, and yield in its mid."""
    process = project.start("train", "wide", *project.overrides, *more)
    try:
        project.wait_until(  # not each epoch has a line
            lambda: process.poll() is not None or re.search(r"epoch ([3-9]|1[01])/", project.log()),
            "epoch 3 is done",
        )
        assert process.poll() is None, project.log()
        hosts = project.cluster.head, project.cluster.worker
        assert [len(host.train_workers()) for host in hosts] == [1, 1]
        yield process
    finally:
        end(process)


def require_same(project: ClusterProject, undisturbed: ClusterProject) -> None:
    assert result(project) == result(undisturbed), project.log()
    (run,) = project.runs()
    assert run.info.status == "FINISHED"
    assert not list((project.folder / "storage").glob("**/checkpoint_*"))


@contextlib.contextmanager
def disturbed(
    project: ClusterProject, undisturbed: ClusterProject, *more: str, resumes: bool = True
) -> Iterator[Callable[[], None]]:
    """Train with a worker on each host, let the block disturb that, and check that it ends well."""
    with project.cluster.one_cpu_held_on_each() as release, training(project, *more) as process:
        began = time.monotonic()
        yield release
        assert process.wait(timeout=300) == 0, project.log()
        print(f"\n{time.monotonic() - began:.1f} s from the fault to the end")
    assert ("resumes after epoch" in project.log()) == resumes
    require_same(project, undisturbed)


def nats(project: ClusterProject) -> float:
    return project.json("evaluation/digits_binary/wide/metrics.json")["nats"]


def addresses(log: str) -> list[str]:
    """Where the workers were that started first."""
    line = re.search(r"2 workers: (\S+), (\S+)", log)
    assert line is not None, log
    return sorted(line.groups())


def test_two_hosts_end_with_the_bytes_of_one(
    two_hosts: Cluster, undisturbed: ClusterProject, project: ClusterProject
) -> None:
    with two_hosts.one_cpu_held_on_each(), training(project) as process:
        assert process.wait(timeout=300) == 0, project.log()
    require_same(project, undisturbed)
    assert project.stage("evaluate", "wide").returncode == 0
    assert nats(project) == nats(undisturbed)
    assert addresses(project.log()) == two_hosts.addresses
    assert len(set(addresses(undisturbed.log()))) == 1


def test_a_hostname_that_stands_for_loopback_changes_nothing(
    network: Network, two_hosts: Cluster, undisturbed: ClusterProject, project: ClusterProject
) -> None:
    """So Debian's installer sets hosts up; gloo would give the others that address."""
    for host in network.hosts:
        host.resolve({host.name: "127.0.1.1"})
    try:
        with two_hosts.one_cpu_held_on_each(), training(project) as process:
            assert process.wait(timeout=300) == 0, project.log()
    finally:
        for host in network.hosts:
            host.resolve(network.names)
    require_same(project, undisturbed)


def test_a_killed_worker_on_the_second_host_changes_nothing(
    two_hosts: Cluster, undisturbed: ClusterProject, project: ClusterProject
) -> None:
    with disturbed(project, undisturbed):
        two_hosts.worker.train_workers()[0].kill()


def test_a_host_without_network_changes_nothing(
    two_hosts: Cluster, undisturbed: ClusterProject, project: ClusterProject
) -> None:
    try:
        with disturbed(project, undisturbed) as release:
            two_hosts.worker.link("down")
            release()
    finally:
        two_hosts.worker.link("up")
        two_hosts.restart_worker()


def test_a_drained_host_is_no_failure(
    two_hosts: Cluster, undisturbed: ClusterProject, project: ClusterProject
) -> None:
    """The training saves itself before the deadline, and goes on though it may never fail."""
    try:
        with disturbed(project, undisturbed, "cluster.max_failures=0") as release:
            two_hosts.drain_worker(seconds=8)
            release()
    finally:
        two_hosts.restart_worker()
    assert "a node goes away; saves a checkpoint" in project.log()


def test_a_host_that_comes_back_is_used_again(
    two_hosts: Cluster, undisturbed: ClusterProject, project: ClusterProject
) -> None:
    with disturbed(project, undisturbed):
        (raylet,) = two_hosts.worker.named("raylet/raylet --raylet_socket_name")
        raylet.kill()
        two_hosts.restart_worker()


def test_a_training_goes_on_with_the_host_that_is_left(
    two_hosts: Cluster, undisturbed: ClusterProject, project: ClusterProject
) -> None:
    two_hosts.stop()
    two_hosts.start(num_cpus=1)  # Ray Train takes CPUs that are held for free ones
    try:
        with training(project, "cluster.min_workers=1") as process:
            two_hosts.worker.kill_ray()
            assert process.wait(timeout=300) == 0, project.log()
    finally:
        two_hosts.stop()
        two_hosts.start()
    assert "2 workers: " in project.log() and "resumes after epoch" in project.log()
    assert project.json("models/wide/training.json")["num_workers"] == 1
    *_, (last, same_last) = zip(result(project)[2], result(undisturbed)[2], strict=True)
    assert float(last["valid_nats"]) == pytest.approx(float(same_last["valid_nats"]), rel=1e-3)


def test_a_lost_head_is_one_line_and_the_next_goes_on(
    two_hosts: Cluster, undisturbed: ClusterProject, project: ClusterProject
) -> None:
    try:
        with two_hosts.one_cpu_held_on_each(), training(project) as process:
            two_hosts.head.kill_ray()
            assert process.wait(timeout=120) == 1, project.log()
            last = project.own(project.log()).splitlines()[-1]
            assert last.startswith("error: wide: "), project.log()
            assert "Traceback" not in project.own(project.log())
    finally:
        two_hosts.stop()
        two_hosts.start()
    with two_hosts.one_cpu_held_on_each():
        done = project.stage("train", "wide", *project.overrides)
    assert done.returncode == 0, done.stderr
    assert "resumes after epoch" in done.stdout + done.stderr
    require_same(project, undisturbed)


def test_a_host_that_stands_still_for_a_while_changes_nothing(
    two_hosts: Cluster, undisturbed: ClusterProject, project: ClusterProject
) -> None:
    with disturbed(project, undisturbed, resumes=False):
        (worker,) = two_hosts.worker.train_workers()
        worker.send_signal(signal.SIGSTOP)
        time.sleep(10)
        worker.send_signal(signal.SIGCONT)


def test_a_slow_network_changes_nothing(
    two_hosts: Cluster, undisturbed: ClusterProject, project: ClusterProject
) -> None:
    try:
        with disturbed(project, undisturbed, resumes=False):
            try:
                two_hosts.worker.delay("20ms")
            except OSError:  # a kernel without netem
                two_hosts.worker.limit("200mbit")
    finally:
        two_hosts.worker.restore_speed()


def test_storage_that_is_gone_for_a_while_changes_nothing(
    two_hosts: Cluster, undisturbed: ClusterProject, project: ClusterProject
) -> None:
    """Either the training waits for it, or ends with one line and goes on when run again."""
    storage, aside = project.folder / "storage", project.folder / "aside"
    with two_hosts.one_cpu_held_on_each(), training(project) as process:
        os.rename(storage, aside)
        storage.write_text("not a folder")
        time.sleep(5)
        storage.unlink()
        os.rename(aside, storage)
        code = process.wait(timeout=300)
    if code != 0:
        said = project.own(project.log())
        assert said.splitlines()[-1].startswith("error: wide: "), said
        assert "Traceback" not in said
        with two_hosts.one_cpu_held_on_each():
            done = project.stage("train", "wide", *project.overrides)
        assert done.returncode == 0, done.stderr
        assert "resumes after epoch" in done.stdout + done.stderr
    require_same(project, undisturbed)


@pytest.fixture
def checkout(project: ClusterProject, tmp_path: Path) -> Path:
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    folder = tmp_path / "checkout"
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    shutil.copy(project.folder / "params.yaml", folder)
    with contextlib.chdir(folder):
        layout.complete(Path("params.yaml"))  # for DVC
    clusters = folder / "pipeline/conf/cluster"
    two = yaml.safe_load((clusters / "local.yaml").read_text())
    two |= {"num_workers": 2, "cpus_per_worker": 1}
    (clusters / "two.yaml").write_text(yaml.safe_dump(two))
    commit(folder)
    return folder


def test_a_job_runs_the_pipeline_in_a_copy_of_the_code(
    two_hosts: Cluster, undisturbed: ClusterProject, project: ClusterProject, checkout: Path
) -> None:
    """Everything from raw data to evaluation; nothing is on both hosts but code and storage."""
    command = f"dvc repro evaluate@wide && cp -r models evaluation {project.folder}"
    variables = {
        "ARCORE_CLUSTER": "two",
        "ARCORE_STORAGE": str(project.folder / "storage"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{project.folder}/mlflow.db",
    }
    with two_hosts.one_cpu_held_on_each():
        done = two_hosts.head.run(
            sys.executable, "-m", "stages.submit", "--address", two_hosts.head.dashboard,
            "--", "sh", "-c", command,
            timeout=300,
            env=variables,
            cwd=checkout,
            check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert addresses(done.stdout) == two_hosts.addresses
    require_same(project, undisturbed)
    assert nats(project) == nats(undisturbed)


IN_A_JOB = """
import os, sys
from pathlib import Path
import ray
from pipeline.artifacts import origin
ray.init(runtime_env={"env_vars": {"A": "c"}}, log_to_driver=False)
print("commit", origin.commit(), os.environ["A"])
print("files", *sorted(map(str, Path().glob("*"))), *Path(".dvc").glob("*"))
sys.exit(3)
"""


def test_a_failed_job_ends_with_its_status(two_hosts: Cluster, checkout: Path) -> None:
    def submit(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        command = ["-m", "stages.submit", "--address", two_hosts.head.dashboard, *arguments]
        return two_hosts.head.run(
            sys.executable, *command, timeout=120, env=variables, cwd=checkout, check=False
        )

    done = submit("--", "python", "-m", "stages.train", "none")
    assert done.returncode == 1 and "error: unknown experiment 'none'" in done.stdout
    done = submit("--id", "three", "--env", "A=b c", "--", "python", "-c", IN_A_JOB)
    assert done.returncode == 3 and done.stderr.endswith("three failed with exit status 3\n")
    lines = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines() if line}
    assert len(lines["commit"][0].removesuffix("-dirty")) == 12
    assert lines["commit"][1:] == ["b", "c"]
    assert {"params.yaml", "stages", ".dvc/config.local"} <= set(lines["files"])
    assert not {".git", ".venv", "tests", "data", "models", ".dvc/cache"} & set(lines["files"])
    again = submit("--id", "three", "--", "true")
    refused = submit("--", "true", RAY_AUTH_TOKEN="another-token-than-the-cluster's")
    assert again.returncode == refused.returncode == 1
    assert again.stderr.startswith("error: --id: expected one that the cluster has not seen")
    assert "expected the cluster's token" in refused.stderr
