"""A small project of DVC's, brought up to date in lanes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from pipeline.core.errors import UserError
from pipeline.repro.lanes import Lanes
from pipeline.repro.repro_display import ReproDisplay
from tests.places import ROOT

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
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dvc")
    (folder / "dvc.yaml").write_text(DVC)
    (folder / "source").write_text("1")
    for command in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "init", "-q"]):
        subprocess.run(command, cwd=folder, check=True)
    return folder


def start(project: Path, target: str, **variables: str) -> subprocess.Popen[str]:
    dropped = {"ARCORE_HOME", "ARCORE_WARM"}
    kept = {key: value for key, value in os.environ.items() if key not in dropped}
    return subprocess.Popen(
        [sys.executable, "-m", "stages.repro", "--lanes", "2", target],
        cwd=project, env=kept | {"PYTHONPATH": str(ROOT), "FAILS": "none"} | variables,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def waiting(project: Path) -> subprocess.Popen[str]:
    """Start what waits, and return when it does."""
    log = project / ".arcore" / "repro.log"
    log.unlink(missing_ok=True)
    process, began = start(project, "wait"), time.monotonic()
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
def test_a_project_is_brought_up_to_date_in_lanes(project: Path) -> None:
    failed = repro(project, FAILS="two")
    assert failed.returncode == 1 and not (project / "table").exists()
    assert failed.stderr.startswith("error: train@two failed (all output: ")
    assert "Traceback" not in failed.stderr
    assert "train two failed; waiting for running stages to finish\n" in failed.stdout
    done = repro(project)
    assert done.returncode == 0, done.stderr
    assert (project / "table").read_text() == "made\n" * 3
    lines = done.stdout.splitlines()
    assert "report a" in lines[-2] and lines[-2].startswith("["), lines
    assert " s in all: " in lines[-1]
    assert max(map(len, lines)) <= 120 and "\x1b" not in done.stdout
    again = repro(project)
    assert (again.returncode, again.stdout) == (0, "up to date\n")
    unknown = repro(project, "report@b")
    assert unknown.returncode == 1
    assert unknown.stderr.startswith("error: dvc: ") and unknown.stderr.count("\n") == 1
    elsewhere = repro(project, ARCORE_HOME="/tmp/elsewhere")
    assert elsewhere.returncode == 1
    assert elsewhere.stderr.startswith("error: ARCORE_HOME: expected none, since DVC's outputs")


@contextlib.contextmanager
def hangups(action: signal.Handlers) -> Iterator[None]:
    """Treat SIGHUP so, as does what is started meanwhile."""
    before = signal.signal(signal.SIGHUP, action)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.e2e
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_request_to_end_reaches_the_stages(project: Path, number: signal.Signals) -> None:
    with hangups(signal.SIG_DFL):  # whatever runs the tests
        process = waiting(project)
    below = psutil.Process(process.pid).children(recursive=True)
    assert len(below) > 2, "the server, DVC and what it runs"
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (1, INTERRUPTED)
    gone, alive = psutil.wait_procs(below, timeout=30)
    assert not alive


@pytest.mark.e2e
def test_under_nohup_it_outlives_the_terminal(project: Path) -> None:
    with hangups(signal.SIG_IGN):
        process = waiting(project)
    process.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=2)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (1, INTERRUPTED)


@pytest.mark.parametrize("written", ["Updating lock file 'dvc.lock'", ""], ids=["stale", "same"])
def test_a_stage_that_fails_before_it_runs_is_the_one_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], written: str
) -> None:
    said = f"""Running stage 'train@one':
> cat data
of the first
{written}

ERROR: failed to reproduce 'train@two': missing data 'source': gone"""
    (tmp_path / "dvc.py").write_text(f"print({said!r})\nraise SystemExit(255)\n")
    log = tmp_path / "repro.log"
    lanes = Lanes(1, os.environ | {"PYTHONPATH": str(tmp_path)}, ReproDisplay(2, 1), log)
    with pytest.raises(UserError) as failed:
        lanes.run([("train@one", "train@two")])
    assert str(failed.value).splitlines() == [
        f"train@two failed (all output: {log}):", said.splitlines()[-1]
    ]  # fmt: skip
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("[1/2] train one ") and lines[1].startswith("train two failed; ")


def test_the_last_line_fits_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    display = ReproDisplay(9, 1)
    for kind in ("preprocess", "train", "evaluate", "codecs", "report", "register", "use"):
        display.ended(0, f"{kind}@a", 1234.5)
    capsys.readouterr()
    for columns, widest in ((80, 80), (200, 120)):
        monkeypatch.setenv("COLUMNS", str(columns))
        display.close()
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == 2 and 70 < max(map(len, lines)) <= widest
