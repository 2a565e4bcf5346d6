"""Scores that a long use keeps while it runs, so that it goes on where it was cut short."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipeline.artifacts.origin import device_name
from pipeline.core import stage_code
from pipeline.core.errors import UserError
from pipeline.core.records import read_object, value_of, write_object
from pipeline.uses.use_context import UseContext

log = logging.getLogger(__name__)


class KeptScores:
    """Nats of the same rows by name, a file each below the context's folder for them.

    They serve a use of the same model, weights, rows and code on the same kind of device alone.

    Arguments:
        context: whose model scores; without a folder nothing is kept.
        use: that it scores for.
        chosen: the test rows.

    Attributes:
        earlier_seconds: that an earlier start spent on what was kept and served again.
    """

    def __init__(self, context: UseContext, use: str, chosen: np.ndarray) -> None:
        self._folder = _folder(context, use, chosen)
        self._count = len(chosen)
        self.earlier_seconds = 0.0
        found = 0 if self._folder is None else len(list(self._folder.glob("[!.]*")))
        if found:
            log.info("%s, %s: goes on after %d scores", context.experiment, use, found)

    def of(self, name: str, measure: Callable[[], Tensor]) -> Tensor:
        """Return what is kept by a name, or measure and keep it: (rows,) float64."""
        if self._folder is None:
            return measure()
        path = self._folder / f"{name}.json"
        try:
            kept = read_object(path)
            nats = torch.tensor(value_of(kept, "nats", list, name), dtype=torch.float64)
            seconds = value_of(kept, "seconds", float, name)
        except (UserError, TypeError, ValueError):  # none, or damaged
            nats = torch.empty(0)
        if len(nats) != self._count:
            began = time.perf_counter()
            nats = measure()
            self._folder.mkdir(parents=True, exist_ok=True)
            seconds = time.perf_counter() - began
            write_object(path, {"seconds": seconds, "nats": nats.tolist()})
        else:
            self.earlier_seconds += seconds
        return nats


def _folder(context: UseContext, use: str, chosen: np.ndarray) -> Path | None:
    """Return a folder that no other model, rows or code has; None where nothing is to be kept."""
    trained = context.trained
    code = stage_code.code_sha256("use", trained.name)
    if context.kept is None or code is None:  # nobody could tell whether it is the same code
        return None
    described = {
        "code": code,
        "model": trained.content["model"],
        "weights": trained.weights_sha256,
        "data": trained.dataset_sha256,
        "device": device_name(trained.model.device),
        "rows": chosen.tolist(),
    }
    text = json.dumps(described, sort_keys=True, default=str)
    kept: Path = context.kept / f"{use}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    return kept
