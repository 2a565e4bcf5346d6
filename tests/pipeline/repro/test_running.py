"""A small project of DVC's, brought up to date in lanes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.places import ROOT

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


def repro(project: Path, fails: str = "none") -> subprocess.CompletedProcess[str]:
    dropped = {"ARCORE_HOME", "ARCORE_WARM"}
    kept = {key: value for key, value in os.environ.items() if key not in dropped}
    return subprocess.run(
        [sys.executable, "-m", "stages.repro", "--lanes", "2", "report@a"],
        cwd=project, env=kept | {"PYTHONPATH": str(ROOT), "FAILS": fails},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip


@pytest.mark.e2e
def test_a_project_is_brought_up_to_date_in_lanes(project: Path) -> None:
    failed = repro(project, fails="two")
    assert failed.returncode == 1 and not (project / "table").exists()
    assert failed.stderr.startswith("error: train@two failed (all output: ")
    assert "Traceback" not in failed.stderr
    done = repro(project)
    assert done.returncode == 0, done.stderr
    assert (project / "table").read_text() == "made\n" * 3
    lines = done.stdout.splitlines()
    assert "report a" in lines[-2] and lines[-2].startswith("["), lines
    assert " s in all: " in lines[-1]
    assert max(map(len, lines)) <= 120 and "\x1b" not in done.stdout
    again = repro(project)
    assert (again.returncode, again.stdout) == (0, "up to date\n")
    unknown = subprocess.run(
        [sys.executable, "-m", "stages.repro", "report@b"],
        cwd=project, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert unknown.returncode == 1
    assert unknown.stderr.startswith("error: dvc: ") and unknown.stderr.count("\n") == 1
