"""Several `dvc repro` at the same time, each with a share of the processors."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from pipeline.core.errors import UserError, one_line
from pipeline.repro.repro_display import ReproDisplay
from pipeline.repro.stage_plan import Chain

_BEGINS = re.compile(r"Running stage '(.+)':")
_SKIPPED = re.compile(r"Stage '(.+)' (didn't change|is cached)")
_ENDED = re.compile(r"(Generating|Updating) lock file")
_FAILED = re.compile(r"ERROR: failed to reproduce '(.+?)'")
_OF_DVC = re.compile(
    r"(> |(Generating|Updating) lock file|To track the changes"
    r"|\tgit add|To enable auto staging|\tdvc config|Use `dvc push`|Data and pipelines are up to"
    r"|WARNING: '.*' is empty|\s*$)"
)
LAST_LINES = 20


class Lanes:
    """Runs targets in as many lanes as asked for, until all are done or one has failed.

    Arguments:
        count: of lanes.
        environment: of the stages.
        display: that shows what happens.
        log: gets all that is printed.
    """

    def __init__(
        self, count: int, environment: Mapping[str, str], display: ReproDisplay, log: Path
    ) -> None:
        self._count, self._environment, self._display = count, environment, display
        self._log, self._lock = log, threading.Lock()
        self._failure: str | None = None
        self._processes: set[subprocess.Popen[str]] = set()

    def run(self, chains: Sequence[Chain]) -> None:
        """Run chains of stages side by side; a lane takes fewer at a time as they become few.

        Raises:
            UserError: with the last lines of a stage that failed; the others end what they are at.
        """
        count = min(self._count, len(chains))
        waiting = deque(chains)
        threads = [
            threading.Thread(target=self._work, args=(lane, waiting, count), daemon=True)
            for lane in range(count)
        ]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            try:
                for thread in threads:
                    thread.join()
            except KeyboardInterrupt:  # the terminal tells the stages too; the second time we do
                if self._failure is not None:
                    self.stop()
                self._failure = self._failure or "interrupted; what is done is kept, rerun to go on"
        if self._failure is not None:
            raise UserError(self._failure)

    def stop(self) -> None:
        """Have the stages under way end: a training saves itself, DVC says that it has failed."""
        for process in list(self._processes):
            _end_below(process)

    def _work(self, lane: int, waiting: deque[Chain], lanes: int) -> None:
        while self._failure is None:
            with self._lock:
                several = max(1, len(waiting) // (3 * lanes))
                taken = [waiting.popleft() for _ in range(min(several, len(waiting)))]
            if not taken:
                return
            try:
                self._repro(lane, [stage for chain in taken for stage in chain])
            except Exception as error:  # else the thread would end as if all were done
                self._failure = self._failure or f"repro: {one_line(error)}"

    def _repro(self, lane: int, stages: Sequence[str]) -> None:
        """Run DVC on these stages alone, in this order, and follow what it prints.

        For a stage that it only looks at, DVC asks for a lock that it does not wait for.
        """
        command = [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", "--single-item"]
        process = subprocess.Popen(
            [*command, *stages],
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        self._processes.add(process)
        try:
            self._follow(lane, stages, process)
        except BaseException:  # e.g. of a display that nobody reads
            _end_below(process)
            process.terminate()
            raise
        finally:
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
            self._processes.discard(process)

    def _follow(self, lane: int, stages: Sequence[str], process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        stage, began = "", time.monotonic()
        last: deque[str] = deque(maxlen=LAST_LINES)
        for line in process.stdout:
            line = line.rstrip("\n")
            begins, skipped = _BEGINS.match(line), _SKIPPED.match(line)
            with self._lock, open(self._log, "a") as log:
                log.write(f"{stage or 'dvc'}: {line}\n")
            failed = _FAILED.match(line)  # maybe of a stage that never began
            named = begins or failed
            if begins or skipped or _ENDED.match(line) or (failed and failed[1] != stage):
                if stage:
                    self._display.ended(lane, stage, time.monotonic() - began)
                stage, began = named[1] if named else "", time.monotonic()
                last.clear()
            if begins:
                self._display.began(lane, stage)
            elif skipped:
                self._display.ended(lane, skipped[1], 0.0)
            elif not _OF_DVC.match(line):
                last.append(line)
                self._display.said(lane, stage, line)
        status = process.wait()
        if status == 0 and stage:
            self._display.ended(lane, stage, time.monotonic() - began)
        elif status != 0 and self._failure is None:
            what = [f"{stage or ' '.join(stages)} failed (all output: {self._log}):", *last]
            self._failure = "\n".join(what)
            self._display.failed(stage or "dvc")


def _end_below(process: subprocess.Popen[str]) -> None:
    """Ask all that a process has started to end."""
    with contextlib.suppress(psutil.NoSuchProcess):
        for child in psutil.Process(process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                child.terminate()
