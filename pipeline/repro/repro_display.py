"""What a run of many stages shows: a line for each that is done, and what is under way."""

from __future__ import annotations

import contextlib
import re
import shutil
import sys
import textwrap
import threading
import time
from collections import defaultdict
from typing import NoReturn

from tqdm import tqdm

from pipeline.repro.stage_plan import kind_of

_EPOCH = re.compile(r"epoch (\d+)/(\d+)\s+(.*)")
SECONDS_BETWEEN_LINES = 10.0
WIDTH = 120


class ReproDisplay:
    """Lines on standard output; on a terminal a bar for each lane below them.

    Arguments:
        total: number of stages.
        lanes: number of lanes.
    """

    def __init__(self, total: int, lanes: int) -> None:
        self._total, self._done, self._began = total, 0, time.monotonic()
        self._lock = threading.Lock()
        self._said: dict[int, float] = {}
        self._seconds: dict[str, float] = {}
        self._bars: list[tqdm[NoReturn]] = []
        if sys.stdout.isatty():
            self._bars = [
                tqdm(
                    position=lane, leave=False, file=sys.stdout, dynamic_ncols=True,
                    unit="", bar_format="{desc} {bar} {unit}",
                )
                for lane in range(lanes)
            ]  # fmt: skip

    def began(self, lane: int, stage: str) -> None:
        """Show that a stage has begun."""
        self._said[lane] = time.monotonic()
        if self._bars:
            bar = self._bars[lane]
            bar.reset(total=1)
            bar.set_description_str(_words(stage), refresh=False)
            bar.unit = ""

    def said(self, lane: int, stage: str, line: str) -> None:
        """Show a line of a stage that is under way: its progress, or a warning."""
        epoch = _EPOCH.match(line)
        if epoch and self._bars:
            bar = self._bars[lane]
            bar.total, bar.n = int(epoch[2]), int(epoch[1])
            bar.unit = f"{epoch[1]}/{epoch[2]}  {epoch[3]}"
            bar.refresh()
        elif epoch:
            now = time.monotonic()
            if now - self._said[lane] >= SECONDS_BETWEEN_LINES:
                self._said[lane] = now
                self._print(f"{'':9}{stage.partition('@')[2]}: {line}")
        elif "warning" in line.lower():
            self._print(f"{'':9}{stage.partition('@')[2]}: {line}")

    def ended(self, lane: int, stage: str, seconds: float) -> None:
        """Show that a stage is done, and how long it took."""
        with self._lock:
            self._done += 1
            self._seconds[stage] = seconds
            done = self._done
        self._print(ended_line(done, self._total, stage, seconds))

    def failed(self, stage: str) -> None:
        """Show that a stage has failed, of which more is said when the others have ended."""
        self._print(f"{_words(stage)} failed; waiting for running stages to finish")

    def close(self) -> None:
        """Take the bars away and print where the time went."""
        for bar in self._bars:
            bar.close()
        kinds: dict[str, list[float]] = defaultdict(list)
        for stage, seconds in self._seconds.items():
            kinds[kind_of(stage)].append(seconds)
        parts = (f"{kind} {sum(all_):.0f} s ({len(all_)})" for kind, all_ in kinds.items())
        line = f"{time.monotonic() - self._began:.0f} s in all: {', '.join(parts)}"
        with contextlib.suppress(BrokenPipeError):  # which would hide why it ends
            width = min(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns)
            print(textwrap.fill(line, width), flush=True)

    def _print(self, line: str) -> None:
        if self._bars:
            self._bars[0].write(line, file=sys.stdout)
        else:
            print(line, flush=True)


def ended_line(done: int, total: int, stage: str, seconds: float) -> str:
    """Say that a stage is done, as which of how many, and how long it took."""
    return f"[{done:{len(str(total))}}/{total}] {_words(stage):46} {seconds:6.1f} s"


def _words(stage: str) -> str:
    """Name a stage as a person would: `train digits-made`."""
    kind, _, item = stage.partition("@")
    return f"{kind} {item}".strip()
