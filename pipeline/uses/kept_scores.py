"""Scores that a long use keeps while it runs, so that it goes on where it was cut short."""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from pipeline.core import atomic, paths, provenance
from pipeline.uses.subject import Subject

log = logging.getLogger(__name__)


class KeptScores:
    """Nats of the same rows by name, a file each below `.arcore/scores/`.

    They serve a use of the same weights, rows and code on the same kind of device alone.

    Arguments:
        subject: whose model scores.
        use: that it scores for.
        chosen: the test rows.
    """

    def __init__(self, subject: Subject, use: str, chosen: np.ndarray) -> None:
        trained = subject.trained
        code = provenance.code_sha256("use", trained.name)
        device = provenance.device_name(trained.model.device)
        described = (use, trained.weights_sha256, trained.dataset_sha256, device, chosen.tolist())
        key = hashlib.sha256(repr((code, *described)).encode()).hexdigest()[:16]
        self._folder = paths.work() / "scores" / f"{subject.experiment}-{key}"
        self._is_kept = code is not None  # else nobody could tell whether it is the same code
        self._count = len(chosen)
        found = len(list(self._folder.glob("[!.]*"))) if self._is_kept else 0
        if found:
            log.info("%s, %s: goes on after %d scores", subject.experiment, use, found)

    def of(self, name: str, measure: Callable[[], Tensor]) -> Tensor:
        """Return what is kept by a name, or measure and keep it: (rows,) float64."""
        path = self._folder / name
        try:
            kept = [float(line) for line in path.read_text(encoding="utf-8").splitlines()]
            if self._is_kept and len(kept) == self._count:
                return torch.tensor(kept, dtype=torch.float64)
        except (OSError, ValueError):  # none, or damaged
            pass
        measured = measure()
        if self._is_kept:
            self._folder.mkdir(parents=True, exist_ok=True)
            atomic.write_text(path, "".join(f"{value!r}\n" for value in measured.tolist()))
        return measured

    def forget(self) -> None:
        """Remove what is kept, since the use has all of it."""
        shutil.rmtree(self._folder, ignore_errors=True)
