"""Bringing targets up to date: what `make repro` runs."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType

from pipeline.core import paths
from pipeline.core.errors import UserError, require
from pipeline.repro.lanes import LAST_LINES, Lanes
from pipeline.repro.repro_display import ReproDisplay, ended_line
from pipeline.repro.stage_plan import make_plan
from pipeline.repro.warm import warmed
from pipeline.tracking import mlflow_store

MOST_LANES = 4
CODE = "code"  # the stage that writes code.yaml, on which the others depend


def repro(targets: Sequence[str], lanes: int | None, cpus: int) -> None:
    """Run what is stale of some targets and of what they need.

    A model of an embedded dataset gains little from a second thread, so that trainings of one
    thread side by side end sooner than one after the other.

    Arguments:
        targets: of DVC.
        lanes: stages at a time; None for one a CPU, at most four.
        cpus: to share among them.

    Raises:
        UserError: for an unknown target, or with the last lines of a stage that failed.
    """
    if lanes is not None and lanes < 1:
        raise UserError(f"lanes: expected a number >= 1, got {lanes}")
    elsewhere = os.environ.get("ARCORE_HOME")
    wanted = "none, since DVC's outputs are in this folder"
    require(not elsewhere, "ARCORE_HOME", wanted, elsewhere)
    count = lanes or min(MOST_LANES, cpus)
    python = str(Path(sys.executable).parent)  # dvc.yaml says `python`
    path = os.pathsep.join(filter(None, (python, os.environ.get("PATH"))))
    plan = make_plan(targets)
    if CODE in plan.stale:  # by which all would be, whatever its content turns out to be
        _run_alone(CODE, dict(os.environ) | {"PATH": path})
        plan = make_plan(targets)
    if not plan.stale:
        print("up to date", flush=True)
        return
    phases = plan.phases()
    count = min(count, max(map(len, phases)))
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, cpus // count))
    log = paths.work() / "repro.log"
    mlflow_store.configure()
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("")
    display = ReproDisplay(len(plan.stale), count)
    variables = dict(os.environ) | {"OMP_NUM_THREADS": threads, "PATH": path}
    try:
        with warmed(variables) as environment:
            work = Lanes(count, environment, display, log)
            with _stopped_by_signals(work):
                for phase in phases:
                    work.run(phase)
    finally:
        display.close()


def _run_alone(stage: str, environment: Mapping[str, str]) -> None:
    """Run a stage before there is a plan, and say how long it took."""
    began = time.monotonic()
    command = [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", "--single-item", stage]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, errors="replace"
    )
    if done.returncode:
        last = (done.stdout + done.stderr).strip().splitlines()[-LAST_LINES:]
        raise UserError("\n".join([f"{stage} failed:", *last]))
    print(ended_line(1, 1, stage, time.monotonic() - began), flush=True)


@contextlib.contextmanager
def _stopped_by_signals(work: Lanes) -> Iterator[None]:
    """Take a request to end, or a terminal that closes, as Ctrl-C, which reaches the stages."""

    def stop(number: int, frame: FrameType | None) -> None:
        work.stop()
        raise KeyboardInterrupt

    kinds = [kind for name in ("SIGTERM", "SIGHUP") if (kind := getattr(signal, name, None))]
    heard = [kind for kind in kinds if signal.getsignal(kind) != signal.SIG_IGN]  # nohup ignores
    before = {kind: signal.signal(kind, stop) for kind in heard}
    try:
        yield
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
