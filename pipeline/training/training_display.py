"""What a training shows as it goes: a bar on a terminal, else a line now and then."""

from __future__ import annotations

import sys
import time
from typing import NoReturn

from torch import Tensor
from tqdm import tqdm

from pipeline.training.training_records import EpochRecord

SECONDS_BETWEEN_LINES = 3.0


class TrainingDisplay:
    """Shows one training on the standard output of the process that it runs in.

    Arguments:
        epochs: of the whole training, at most.
        steps_per_epoch: optimiser steps.
        done: steps taken before.
        shown: False shows no progress, only messages.
    """

    def __init__(self, epochs: int, steps_per_epoch: int, done: int, shown: bool) -> None:
        self._epochs, self._total = epochs, epochs * steps_per_epoch
        self._done, self._first, self._began = done, done, time.monotonic()
        self._lines = shown and not sys.stdout.isatty()
        self._printed = -float("inf")
        self._bar: tqdm[NoReturn] | None = None
        if shown and not self._lines:
            layout = "{desc} {percentage:3.0f}% {bar} {rate_fmt}, {remaining} left"
            self._bar = tqdm(
                total=self._total, initial=done, unit="step", bar_format=layout,
                dynamic_ncols=True, leave=False, file=sys.stdout,
            )  # fmt: skip

    def step(self) -> None:
        """Count an optimiser step."""
        self._done += 1
        if self._bar is not None:
            self._bar.update()

    def loss(self, epoch: int, nats: Tensor) -> None:
        """Show the mean training loss of the epoch under way, from 1; a bar has one worker.

        Arguments:
            epoch: under way.
            nats: () on any device, which only a bar waits for.
        """
        if self._bar is not None:
            line = f"epoch {epoch}/{self._epochs}  train {float(nats):.3f} nats"
            self._bar.set_description_str(line)

    def epoch(self, record: EpochRecord) -> None:
        """Show a finished epoch: always the last one, others at most every few seconds."""
        valid = "" if record.valid_nats is None else f"  valid {record.valid_nats:.3f}"
        line = f"epoch {record.epoch}/{self._epochs}  train {record.train_nats:.3f}{valid} nats"
        if self._bar is not None:
            self._bar.set_description_str(line)
        now = time.monotonic()
        due = now - self._printed >= SECONDS_BETWEEN_LINES or record.epoch == self._epochs
        if self._lines and due:
            self._printed = now
            print(f"{line}  {self._pace(now)}", flush=True)

    def _pace(self, now: float) -> str:
        seconds = (now - self._began) / max(1, self._done - self._first)
        left = tqdm.format_interval(seconds * (self._total - self._done))
        return f"{1000 * seconds:.3g} ms/step  {left} left"

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
