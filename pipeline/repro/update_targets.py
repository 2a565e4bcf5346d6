"""Bringing DVC's targets up to date, stale stages side by side: what `make repro` runs."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from graphlib import TopologicalSorter
from pathlib import Path

import networkx
import psutil
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.stage import Stage

from pipeline.artifacts import locks
from pipeline.core import paths
from pipeline.core.errors import UserError, explained, require
from pipeline.repro.warm import warmed
from pipeline.tracking import mlflow_store

MOST_LANES = 4
LAST_LINES = 20  # of a stage that fails
SECONDS_BETWEEN_LINES = 10.0  # of one stage's epochs
LOCKS = Path(".dvc/tmp/rwlock")  # of DVC, by process
CODE = "code"  # the stage that writes code.yaml, on which the others depend
_EPOCH = re.compile(r"epoch \d+/\d+ ")


def repro(targets: Sequence[str], lanes: int | None, cpus: int) -> None:
    """Run what is stale of some targets of DVC and of what they need.

    A model of an embedded dataset gains little from a second thread, so that trainings of one
    thread side by side end sooner than one after the other.
    `lanes` are stages at a time, which share the CPUs; None for one a CPU, at most four.
    """
    require(lanes is None or lanes >= 1, "lanes", "a number >= 1", lanes)
    elsewhere = os.environ.get("ARCORE_HOME")
    wanted = "none, since DVC's outputs are in this folder"
    require(not elsewhere, "ARCORE_HOME", wanted, elsewhere)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"  # of `python`
    variables = dict(os.environ) | {"PATH": path, paths.REPRO: str(os.getpid())}
    mlflow_store.configure()
    with locks.held(paths.work() / "repro.lock", "make repro", wait=True):
        _wait_for_others()
        _run_stale(targets, lanes, cpus, variables)


def _run_stale(
    targets: Sequence[str], lanes: int | None, cpus: int, variables: dict[str, str]
) -> None:
    stale = stale_stages(targets)
    if CODE in stale:  # by which all would be, whatever its content turns out to be
        Stages({CODE: set()}, variables).run(1)
        stale = stale_stages(targets)
    if not stale:
        print("up to date", flush=True)
        return
    began, count = time.monotonic(), min(lanes or min(MOST_LANES, cpus), len(stale))
    variables.setdefault("OMP_NUM_THREADS", str(max(1, cpus // count)))
    with warmed(variables) as environment:
        Stages(stale, environment).run(count)
    said = f"{count} stages" if count > 1 else "1 stage"
    print(f"{said} at a time: {time.monotonic() - began:.0f} s in all", flush=True)


def _wait_for_others() -> None:
    """Wait for what DVC still runs in this folder, such as stages of a killed run, and name it."""
    named: set[int] = set()
    while running := _running():
        for number in running.keys() - named:
            print(f"waiting for {running[number]} (process {number})", flush=True)
        named |= running.keys()
        time.sleep(1)


def _running() -> dict[int, str]:
    """Return the commands of DVC, by process, that hold files of this folder.

    A file of locks that a kill left half written is removed, since DVC would refuse it for ever.
    """
    for seconds in (1, 0):  # it may be being written
        try:
            held = json.loads(LOCKS.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except ValueError:
            time.sleep(seconds)
        else:
            entries = [entry for kind in held.values() for entry in kind.values()]
            every = [
                one for entry in entries for one in (entry if isinstance(entry, list) else [entry])
            ]
            return {one["pid"]: one["cmd"] for one in every if psutil.pid_exists(one["pid"])}
    LOCKS.unlink(missing_ok=True)
    return {}


def stale_stages(targets: Sequence[str]) -> dict[str, set[str]]:
    """Ask DVC which stages that targets need are stale, and which of these each waits for."""
    stale: dict[str, set[str]] = {}
    with explained("dvc:", DvcException):
        with Repo(_wait_for_lock=True) as repo, repo.lock:
            for stage in needed_stages(repo, targets):
                before = {one.addressing for one in repo.index.graph.successors(stage)}
                if before & stale.keys() or stage.changed():
                    stale[stage.addressing] = before & stale.keys()
    return stale


def needed_stages(repo: Repo, targets: Sequence[str]) -> list[Stage]:
    """Return the stages of some targets and all that they need, each after what it needs."""
    graph = repo.index.graph
    named = {stage.addressing: [stage] for stage in graph}  # which DVC would read again
    needed = {one for name in targets for one in named.get(name) or repo.stage.collect(name)}
    needed = needed.union(*(networkx.descendants(graph, stage) for stage in needed))
    return [stage for stage in networkx.dfs_postorder_nodes(graph) if stage in needed]


class Stages:
    """Runs stages by DVC, each after the ones that it waits for, and prints a line for each."""

    def __init__(self, waits_for: Mapping[str, set[str]], environment: Mapping[str, str]) -> None:
        self._order = TopologicalSorter(waits_for)
        self._total, self._done, self._environment = len(waits_for), 0, environment
        self._processes: set[int] = set()
        self._lock, self._log = threading.Lock(), paths.work() / "repro.log"

    def run(self, lanes: int) -> None:
        """Run all, some at a time; after a failure the running ones end and no other begins.

        A request to end, or a terminal that closes, is as Ctrl-C and reaches them.
        """
        for kind in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(kind) != signal.SIG_IGN:  # as nohup does
                signal.signal(kind, self._stop)
        self._log.parent.mkdir(parents=True, exist_ok=True)
        self._log.write_text("")
        pool = ThreadPoolExecutor(lanes)
        try:
            try:
                self._run_all(pool)
            finally:  # the terminal tells the stages too; the second time we do
                pool.shutdown(cancel_futures=True)
        except KeyboardInterrupt:
            self._end_stages()
            raise UserError("interrupted; what is done is kept, rerun to go on") from None

    def _run_all(self, pool: ThreadPoolExecutor) -> None:
        running: dict[Future[None], str] = {}
        self._order.prepare()
        while self._order.is_active():
            running |= {pool.submit(self._repro, name): name for name in self._order.get_ready()}
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                future.result()
                self._order.done(running.pop(future))

    def _stop(self, number: int, frame: object) -> None:
        self._end_stages()
        raise KeyboardInterrupt

    def _end_stages(self) -> None:
        """Have the stages under way end: a training saves itself, DVC says that it has failed."""
        for number in list(self._processes):
            with contextlib.suppress(psutil.NoSuchProcess):
                for child in psutil.Process(number).children(recursive=True):
                    with contextlib.suppress(psutil.NoSuchProcess):
                        child.terminate()

    def _repro(self, stage: str) -> None:
        """Run DVC on this stage alone, which waits for its lock, and follow what it prints."""
        command = [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", "--single-item", stage]
        began = time.monotonic()
        with subprocess.Popen(
            command, env=self._environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, errors="replace",
        ) as process:  # fmt: skip
            self._processes.add(process.pid)
            last = self._followed(stage, process)
        self._processes.discard(process.pid)
        if process.returncode:
            print(f"{_words(stage)} failed; waiting for running stages to finish", flush=True)
            raise UserError("\n".join([f"{stage} failed (all output: {self._log}):", *last]))
        with self._lock:
            self._done += 1
            number = f"[{self._done:{len(str(self._total))}}/{self._total}]"
            seconds = time.monotonic() - began
            print(f"{number} {_words(stage):46} {seconds:6.1f} s", flush=True)

    def _followed(self, stage: str, process: subprocess.Popen[str]) -> Sequence[str]:
        """Log what a stage prints, show its warnings and now and then an epoch; return the end."""
        last: deque[str] = deque(maxlen=LAST_LINES)
        shown = time.monotonic()
        for line in process.stdout or ():
            last.append(line.rstrip("\n"))
            with self._lock, open(self._log, "a") as log:
                log.write(f"{stage}: {last[-1]}\n")
            due = time.monotonic() - shown >= SECONDS_BETWEEN_LINES
            if "warning: " in line or (due and _EPOCH.match(line)):
                shown = time.monotonic()
                print(f"{'':9}{stage.partition('@')[2]}: {last[-1]}", flush=True)
        return last


def _words(stage: str) -> str:
    """Name a stage as a person would: `train digits-made`."""
    kind, _, item = stage.partition("@")
    return f"{kind} {item}".strip()
