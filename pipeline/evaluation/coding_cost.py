"""The size of test rows as a file: what the likelihood promises, in bytes."""

import time
from typing import Any

import numpy as np
import torch
from torch import Tensor

import arcore
from arcore import coding
from pipeline.core.errors import UserError, require
from pipeline.data import sound_batches
from pipeline.evaluation.result_records import Coded
from pipeline.evaluation.scoring import ChosenRows


def check(model: arcore.AutoregressiveModel, context_frames: int, name: str) -> None:
    """Refuse a bound, an ensemble, reals, or given frames before anything is scored."""
    if context_frames:
        raise UserError(f"{name}: evaluation.coded: expected false for given frames, got true")
    try:
        coding.check_model(model)
    except ValueError as error:
        raise UserError(f"{name}: evaluation.coded: {error}") from None


def measure(model: arcore.AutoregressiveModel, rows: ChosenRows, name: str) -> Coded:
    """Compress rows of a split as one stream, decompress them and compare."""
    x, condition, options = _to_code(model, rows)
    try:
        began = time.perf_counter()
        data = coding.compress(model, x, condition, verify=False, **options)
        seconds = time.perf_counter() - began
        fits = torch.equal(coding.decompress(model, data, condition), x.long())
    except ValueError as error:  # the coder's own check of what it decodes among them
        raise UserError(f"{name}: evaluation.coded: {error}") from None
    require(fits, f"{name}: evaluation.coded", "the levels that were coded", "others")
    return Coded(coded_bytes=len(data), coded_seconds=round(seconds, 2))


def _to_code(
    model: arcore.AutoregressiveModel, rows: ChosenRows
) -> tuple[Tensor, Tensor | None, dict[str, Any]]:
    """Read rows, what they are given, and for sounds their lengths; the longest sounds first."""
    if not model.event.is_open:
        batch = rows.read(model)
        return batch.x, batch.condition, {}
    rows, sounds = rows.part(np.argsort(-rows.lengths, kind="stable")), rows.split.whole()
    twin, condition = sound_batches.to_sample(model, sounds, rows.numbers)
    (width,) = twin.event.extents
    x = torch.from_numpy(sounds.x[rows.numbers, :width]).to(model.device)
    lengths = torch.from_numpy(rows.lengths)
    padding = torch.arange(width) >= lengths[:, None]
    x = x.masked_fill(padding.to(x.device), 0)
    return x, condition, {"lengths": lengths}
