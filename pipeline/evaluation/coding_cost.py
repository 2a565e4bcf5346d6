"""The size of test rows as a file: what the likelihood promises, in bytes."""

from __future__ import annotations

import time

import numpy as np
import torch

import arcore
from arcore import coding
from pipeline.core.errors import UserError
from pipeline.data.stored_split import Split
from pipeline.evaluation import scoring
from pipeline.evaluation.results import Coded


def check(model: arcore.AutoregressiveModel, context_frames: int, name: str) -> None:
    """Refuse what cannot be coded before anything is scored.

    Raises:
        UserError: for a bound, an ensemble, reals, events of open length, or given frames.
    """
    if context_frames or model.event.is_open:
        what = "given frames" if context_frames else "events of open length"
        raise UserError(f"{name}: evaluation.coded: expected false for {what}, got true")
    try:
        coding.check_model(model)
    except ValueError as error:
        raise UserError(f"{name}: evaluation.coded: {error}") from None


def measure(model: arcore.AutoregressiveModel, split: Split, rows: np.ndarray) -> Coded:
    """Compress rows of a split as one stream, decompress them and compare.

    Raises:
        RuntimeError: if other levels come back.
    """
    x = torch.from_numpy(scoring.read_rows(split, rows, model.event)).to(model.device)
    condition = scoring.condition_of(model, split, rows)
    began = time.perf_counter()
    data = coding.compress(model, x, condition, verify=False)
    seconds = time.perf_counter() - began
    if not torch.equal(coding.decompress(model, data, condition), x.long()):
        raise RuntimeError("coding: other levels came back than were coded")
    return Coded(coded_bytes=len(data), coded_seconds=round(seconds, 2))
