"""What a training shows as it goes: a bar on a terminal, else a line now and then."""

import sys
import time
from typing import NoReturn

from torch import Tensor
from tqdm import tqdm

from pipeline.training.training_records import EpochRecord

SECONDS_BETWEEN_LINES = 3.0


class TrainingDisplay:
    """Shows one training on the standard output of the process that it runs in.

    It has at most so many epochs and steps; `done` of the steps were taken before.
    """

    def __init__(self, epochs: int, steps: int, done: int, shown: bool) -> None:
        self._epochs, self._total = epochs, steps
        self._lines = shown and not sys.stdout.isatty()
        self.bar: tqdm[NoReturn] = tqdm(
            total=self._total, initial=done, unit="step", dynamic_ncols=True,
            leave=False, file=sys.stdout, disable=not shown or self._lines,
            bar_format="{desc} {percentage:3.0f}% {bar} {rate_fmt}, {remaining} left",
        )  # fmt: skip
        self._done, self._began, self._printed = done, time.monotonic(), -float("inf")

    def loss(self, epoch: int, nats: Tensor) -> None:
        """Show the mean training loss of the epoch under way, (), on a bar of one worker."""
        if not self.bar.disable:
            self.bar.set_description_str(self._line(epoch, float(nats)))

    def epoch(self, record: EpochRecord) -> None:
        """Show a finished epoch: always the last one, others at most every few seconds."""
        valid = "" if record.valid_nats is None else f"  valid {record.valid_nats:.3f}"
        line = self._line(record.epoch, record.train_nats, valid)
        self.bar.set_description_str(line)
        now = time.monotonic()
        due = now - self._printed >= SECONDS_BETWEEN_LINES or record.epoch == self._epochs
        if self._lines and due:
            self._printed = now
            seconds = (now - self._began) / max(1, record.step - self._done)
            left = tqdm.format_interval(seconds * (self._total - record.step))
            pace = f"{1000 * seconds:.3g} ms/step  {left} left"
            print(f"{line}  {pace}", flush=True)

    def _line(self, epoch: int, nats: float, valid: str = "") -> str:
        return f"epoch {epoch}/{self._epochs}  train {nats:.3f}{valid} nats"
