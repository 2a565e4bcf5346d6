"""A small project of DVC's, brought up to date in lanes."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from pipeline.core.errors import UserError
from pipeline.repro import update_targets
from pipeline.repro.update_targets import Stages
from tests.places import ROOT

# A folder for temporary files whose path is too long for a warm server, which no stage here needs.
LONG = "t" * 99
INTERRUPTED = "error: interrupted; what is done is kept, rerun to go on\n"
DVC = """
stages:
  preprocess:
    foreach: [a]
    do:
      cmd: echo made > data-${item}
      deps: [source]
      outs: [data-a]
  train:
    foreach: [one, two, three]
    do:
      cmd: cat data-a > model-${item} && echo "epoch 1/1  train 2.0 nats" && test ${item} != $FAILS
      deps: [data-a]
      outs: ["model-${item}"]
  wait:
    cmd: echo waiting && sleep 1234
    deps: [source]
    outs: [waited]
  report:
    foreach: [a]
    do:
      cmd: cat model-* > table
      deps: [model-one, model-two, model-three]
      outs: [table]
"""


@pytest.fixture(scope="module")
def initialised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dvc")
    (folder / "dvc.yaml").write_text(DVC)
    (folder / "source").write_text("1")
    (folder / LONG).mkdir()
    (folder / ".dvc").mkdir()
    (folder / ".dvc/config").touch()
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    return folder


@pytest.fixture
def project(initialised: Path, tmp_path: Path) -> Path:
    return shutil.copytree(initialised, tmp_path / "project")


def start(project: Path, target: str, **variables: str) -> subprocess.Popen[str]:
    dropped = {"ARCORE_HOME", "ARCORE_WARM"}
    kept = {key: value for key, value in os.environ.items() if key not in dropped}
    own = {"PYTHONPATH": str(ROOT), "FAILS": "none", "TMPDIR": str(project / LONG)}
    return subprocess.Popen(
        [sys.executable, "-m", "stages.repro", "--lanes", "2", target],
        cwd=project, env=kept | own | variables,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def waiting(project: Path, **variables: str) -> subprocess.Popen[str]:
    log = project / ".arcore" / "repro.log"
    log.unlink(missing_ok=True)
    process, began = start(project, "wait", **variables), time.monotonic()
    while not log.is_file() or "wait: waiting" not in log.read_text():
        assert process.poll() is None and time.monotonic() - began < 120
        time.sleep(0.1)
    return process


def repro(
    project: Path, target: str = "report@a", **variables: str
) -> subprocess.CompletedProcess[str]:
    process = start(project, target, **variables)
    out, err = process.communicate(timeout=300)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


@pytest.mark.e2e
@pytest.mark.filterwarnings("ignore:_NoneStep:DeprecationWarning")
def test_a_project_is_brought_up_to_date_in_lanes(
    workdir, project: Path, monkeypatch, capsys
) -> None:
    failed = repro(project, FAILS="two")
    assert failed.returncode == 1 and not (project / "table").exists()
    assert failed.stderr.startswith("error: train@two failed (all output: ")
    assert "Traceback" not in failed.stderr
    assert "train two failed; waiting for running stages to finish\n" in failed.stdout
    locks = project / ".dvc/tmp/rwlock"
    locks.write_text(locks.read_text()[:-1])
    done = repro(project)
    assert done.returncode == 0, done.stderr
    assert (project / "table").read_text() == "made\n" * 3
    lines = done.stdout.splitlines()
    assert "report a" in lines[-2] and lines[-2].startswith("["), lines
    assert lines[-1].endswith(" s in all")
    assert max(map(len, lines)) <= 120 and "\x1b" not in done.stdout
    monkeypatch.chdir(project)
    update_targets.repro(["report@a"], 2, 2)
    assert capsys.readouterr().out == "up to date\n"
    with pytest.raises(UserError, match="^dvc: [^\n]+$"):
        update_targets.repro(["report@b"], 2, 2)
    monkeypatch.setenv("ARCORE_HOME", "/tmp/elsewhere")
    with pytest.raises(UserError, match="^ARCORE_HOME: expected none, since DVC's outputs"):
        update_targets.repro(["report@a"], 2, 2)


@contextlib.contextmanager
def hangups(action: signal.Handlers) -> Iterator[None]:
    """Treat SIGHUP so, as does what is started meanwhile."""
    before = signal.signal(signal.SIGHUP, action)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.e2e
@pytest.mark.parametrize("under_nohup", [False, True])
def test_a_request_to_end_reaches_the_stages(project: Path, under_nohup: bool) -> None:
    with hangups(signal.SIG_IGN if under_nohup else signal.SIG_DFL):
        process = waiting(project, TMPDIR=tempfile.gettempdir())
    below = psutil.Process(process.pid).children(recursive=True)
    assert len(below) > 2, "the server, DVC and what it runs"
    process.send_signal(signal.SIGHUP)
    if under_nohup:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=2)
        process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (1, INTERRUPTED)
    gone, alive = psutil.wait_procs(below, timeout=30)
    assert not alive


@pytest.mark.e2e
@pytest.mark.parametrize("killed", [True, False])
def test_the_next_run_waits_for_another_and_for_what_a_killed_one_left(
    project: Path, killed: bool
) -> None:
    process = waiting(project)
    children = psutil.Process(process.pid).children(recursive=True)
    (dvc,) = [one for one in children if "--single-item" in one.cmdline()]
    if killed:
        process.kill()
    again = start(project, "preprocess@a")
    assert again.stdout is not None and again.stderr is not None
    line = (again.stdout if killed else again.stderr).readline()
    same = rf"warning: make repro: waits for another process of the same \(process {process.pid} "
    said = rf"waiting for .* \(process {dvc.pid}\)\n" if killed else same
    assert re.match(said, line), line
    for one in [*dvc.children(recursive=True), dvc]:
        one.kill()
    process.communicate()
    _, err = again.communicate(timeout=120)
    assert again.returncode == 0, err


def test_the_last_lines_of_a_stage_that_fails_are_said(workdir, capsys) -> None:
    said = "Running stage 'train@one':\nERROR: failed to reproduce 'train@one': gone"
    (workdir / "dvc.py").write_text(f"print({said!r})\nraise SystemExit(255)\n")
    variables = os.environ | {"PYTHONPATH": str(workdir)}
    stages = Stages({"train@one": set(), "evaluate@one": {"train@one"}}, variables)
    with pytest.raises(
        UserError, match=r"^train@one failed \(all output: .*repro.log\):"
    ) as failed:
        stages.run(2)
    assert str(failed.value).splitlines()[1:] == said.splitlines()
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("train one failed; ")
