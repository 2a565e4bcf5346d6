"""`python -m stages.submit`: its command line, and jobs on a Ray of this test's own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline.cluster import jobs
from stages import cli, submit
from tests.places import ROOT
from tests.support.projects import PATIENCE

TOKEN = "token-of-this-test-alone"


class Client:
    def __init__(self, status: str, code: int | None) -> None:
        self.info = SimpleNamespace(status=status, driver_exit_code=code, message=None)

    def get_address(self) -> str:
        return "http://127.0.0.1:1"

    def submit_job(self, **job: object) -> str:
        return str(job["submission_id"] or "raysubmit_1")

    def get_job_logs(self, job: str) -> str:
        return f"log of {job}\n"

    def get_job_info(self, job: str) -> SimpleNamespace:
        return self.info


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch):
    """A function that runs the command line in this process; returns its exit status."""

    def run(*arguments: str, status: str = "SUCCEEDED", code: int | None = 0) -> object:
        monkeypatch.chdir(ROOT)
        monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
        monkeypatch.setattr(jobs, "connect", lambda address: Client(status, code))
        monkeypatch.setattr(sys, "argv", ["submit", *arguments])
        try:
            cli.run(submit.main)
        except SystemExit as ended:
            return ended.code
        return 0

    return run


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [("SUCCEEDED", 0, 0), ("FAILED", 3, 3), ("FAILED", None, 1), ("STOPPED", None, 1)],
)
def test_exit_status(run, capsys, status: str, code: int | None, expected: int) -> None:
    assert run("--id", "mine", "--", "true", status=status, code=code) == expected
    assert capsys.readouterr().out == "log of mine\n"


def test_no_wait(run, capsys) -> None:
    assert run("--no-wait", "--", "true", status="FAILED", code=3) == 0
    assert capsys.readouterr().out == "raysubmit_1\n"


def test_interrupt_leaves_the_job(run, monkeypatch, caplog) -> None:
    def interrupt(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(jobs, "follow", interrupt)
    caplog.set_level("INFO")
    assert run("--id", "mine", "--", "true") == 130
    assert "ray job logs --address http://127.0.0.1:8265 --follow mine" in caplog.messages[-1]
    assert "ray job stop --address http://127.0.0.1:8265 mine" in caplog.messages[-1]


def test_the_command_line() -> None:
    options, command = submit.parse(
        ["--env", "A=b", "C", "--id", "x", "--env", "D=", "--", "dvc", "repro", "--", "x"]
    )
    assert options.env == ["A=b", "C", "D="] and options.id == "x" and not options.no_wait
    assert command == ["dvc", "repro", "--", "x"]


@pytest.mark.parametrize("arguments", [[], ["--"], ["--id", "x"], ["python", "--", "true"]])
def test_usage(arguments: list[str], capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        submit.parse(arguments)
    assert ended.value.code == 2 and "usage: python -m stages.submit" in capsys.readouterr().err


def test_one_line_for_an_unreachable_cluster(command) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{probe.getsockname()[1]}"
    line = command(ROOT, "submit", "--address", address, "--", "true")
    assert line.startswith(f"error: {address}: expected the dashboard of a Ray cluster")
    assert "--address: expected http" in command(ROOT, "submit", "--address", "x", "--", "true")


def free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def environment(token: str = TOKEN) -> dict[str, str]:
    dropped = ("ARCORE_", "MLFLOW_", "RAY_", "DVC_")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(dropped)}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    ours = {"PATH": path, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
    loopback = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"}
    return kept | ours | loopback


@pytest.fixture(scope="module")
def dashboard() -> Iterator[str]:
    """The address of a Ray on loopback with token authentication, in a folder of its own."""
    folder = tempfile.mkdtemp(prefix="arcore-", dir="/tmp")  # Ray's sockets need a short path.
    gcs, http, client, listen, grpc = free_ports(5)
    options = {
        "port": gcs,
        "node-ip-address": "127.0.0.1",
        "include-dashboard": "true",
        "dashboard-host": "127.0.0.1",
        "dashboard-port": http,
        "ray-client-server-port": client,
        "dashboard-agent-listen-port": listen,
        "dashboard-agent-grpc-port": grpc,
        "temp-dir": folder,
        "num-cpus": 1,
        "object-store-memory": 80_000_000,
    }
    with open(Path(folder, "head.log"), "wb") as log:
        head = subprocess.Popen(
            ["ray", "start", "--head", "--block", *(f"--{k}={v}" for k, v in options.items())],
            env=environment(),
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        address = f"http://127.0.0.1:{http}"
        deadline = time.monotonic() + PATIENCE
        while not answers(http):
            assert head.poll() is None, Path(folder, "head.log").read_text()
            assert time.monotonic() < deadline, "timed out waiting for the dashboard"
            time.sleep(0.2)
        yield address
    finally:
        head.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            head.wait(30)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(head.pid, signal.SIGKILL)
        head.wait()
        shutil.rmtree(folder, ignore_errors=True)


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def stage(address: str, *arguments: str, token: str = TOKEN) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "stages.submit", "--address", address, *arguments],
        cwd=ROOT,
        env=environment(token),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


@pytest.mark.slow
def test_jobs(dashboard: str) -> None:
    done = stage(dashboard, "--id", "bad", "--", "python", "-m", "stages.train", "digits-mad")
    assert done.returncode == 1
    assert "error: unknown experiment 'digits-mad'; did you mean 'digits-made'" in done.stdout

    code = (
        "import os, sys; from pathlib import Path; import ray;"
        "from pipeline.artifacts import origin;"
        "ray.init(runtime_env={'env_vars': {'A': 'c'}}, log_to_driver=False);"
        "print('commit', origin.commit(), os.environ['A']);"
        "print('files', *sorted(map(str, Path().glob('*'))), *Path('.dvc').glob('*'));"
        "sys.exit(3)"
    )
    done = stage(dashboard, "--id", "three", "--env", "A=b c", "--", "python", "-c", code)
    assert done.returncode == 3, done.stderr
    lines = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines() if line}
    assert len(lines["commit"][0].removesuffix("-dirty")) == 12 and lines["commit"][1:] == [
        "b",
        "c",
    ]
    assert {"params.yaml", "stages", ".dvc/config.local"} <= set(lines["files"])
    assert not {".git", ".venv", "tests", "data", "models", ".dvc/cache"} & set(lines["files"])
    assert done.stderr == "submitted three\nthree failed with exit status 3\n"

    done = stage(dashboard, "--", "dvc", "stage", "list", "--name-only")
    assert done.returncode == 0 and "train@digits-made" in done.stdout, "DVC works without .git"

    again = stage(dashboard, "--id", "three", "--", "true")
    refused = stage(dashboard, "--", "true", token="another-token-than-the-cluster's")
    assert again.returncode == refused.returncode == 1
    assert again.stderr.startswith("error: --id: expected one that the cluster has not seen")
    assert "expected the cluster's token" in refused.stderr
    assert again.stderr.count("\n") == refused.stderr.count("\n") == 1
    assert TOKEN not in again.stderr + refused.stderr
