"""Stages that run in a child of a warm process, as if they ran by themselves."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from pipeline.core import paths
from pipeline.repro.warm import VARIABLE, warmed
from tests.places import ROOT

STAGE = """
import os, sys, time
from pipeline.core.errors import UserError
from stages import cli

def main():
    warm = "mlflow" in sys.modules and "torch" in sys.modules
    print(os.getcwd(), sys.argv[1:], os.environ.get("GIVEN"), warm, flush=True)
    if sys.argv[1] == "refuse":
        raise UserError("no")
    if sys.argv[1] == "fall":
        os.kill(os.getpid(), 9)
    if sys.argv[1] == "wait":
        time.sleep(60)
    print(sys.stdin.read(), file=sys.stderr)

if __name__ == "__main__":
    cli.run(main)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("warm")
    (folder / "some_stage.py").write_text(STAGE)
    return folder


STARTER = """
import json, os, psutil, sys
from pipeline.repro.warm import warmed
with warmed(dict(os.environ)) as variables:
    print(json.dumps([psutil.Process().children()[0].pid, variables]), flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def variables(folder: Path) -> Iterator[dict[str, str]]:
    """What a server's stages find it by, which must end with the process that started it."""
    path = f"{folder}{os.pathsep}{ROOT}"
    with subprocess.Popen(
        [sys.executable, "-c", STARTER],
        env=os.environ | {"PYTHONPATH": path, "GIVEN": "at the start"},
        cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as starter:  # fmt: skip
        assert starter.stdout is not None
        number, variables = json.loads(starter.stdout.readline())
        server = psutil.Process(number)
        yield variables
        starter.kill()
        assert not psutil.wait_procs([server], timeout=60)[1]


def start(variables: dict[str, str], folder: Path, word: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "some_stage", word],
        cwd=folder, env=variables | {"GIVEN": "now"}, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def test_a_stage_has_its_own_folder_arguments_environment_and_streams(variables, folder) -> None:
    out, err = (process := start(variables, folder, "go")).communicate("given\n", timeout=100)
    assert process.returncode == 0, err
    assert out == f"{folder} ['go'] now True\n"
    assert err == "given\n\n"


@pytest.mark.parametrize(
    ("word", "said", "status"),
    [
        ("refuse", "error: no\n", 1),
        ("fall", "error: killed, perhaps by the system for want of memory\n", 137),
    ],
)
def test_a_stage_that_fails_fails(variables, folder, word: str, said: str, status: int) -> None:
    process = start(variables, folder, word)
    assert process.communicate(timeout=100)[1] == said
    assert process.returncode == status


def test_a_signal_reaches_the_stage(variables, folder) -> None:
    process = start(variables, folder, "wait")
    assert process.stdout is not None and process.stdout.readline()
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=30)[1] == ""
    assert process.returncode == 128 + signal.SIGTERM
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("warm", [True, False])
def test_a_stage_ends_with_the_repro_that_runs_it(variables, folder, warm: bool) -> None:
    repro = subprocess.Popen(["sleep", "60"])
    given = {key: value for key, value in variables.items() if warm or key != VARIABLE}
    process = start(given | {paths.REPRO: str(repro.pid)}, folder, "wait")
    assert process.stdout is not None and process.stdout.readline()
    repro.kill()
    began = time.monotonic()
    process.communicate(timeout=30)
    assert process.returncode and time.monotonic() - began < 30
    repro.wait()


def test_where_addresses_are_too_long_there_is_no_server(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("x" * 110)))
    (tmp_path / ("x" * 110)).mkdir()
    with warmed({"GIVEN": "1"}) as variables:
        assert variables == {"GIVEN": "1"}


def test_without_a_server_a_stage_runs_by_itself(variables, folder) -> None:
    gone = variables | {VARIABLE: str(folder / "nobody")}
    out, err = (process := start(gone, folder, "go")).communicate("", timeout=100)
    assert process.returncode == 0, err
    assert out == f"{folder} ['go'] now False\n"
