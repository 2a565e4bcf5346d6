"""Batches on their way to a device."""

from __future__ import annotations

import torch

from pipeline.data.batches import Batch
from tests.support.waits import META, NoWaitingCopies


def test_a_batch_goes_to_the_device_without_waiting_but_for_its_spans() -> None:
    batch = Batch(torch.ones(2, 3), torch.arange(2), torch.tensor([[0, 3], [1, 2]]), rows=2)
    with NoWaitingCopies():
        moved = batch.to(META)
    assert moved.x.is_meta and moved.condition.is_meta
    assert moved.scored is batch.scored, "the host reads them in each step"
    assert moved.rows == 2
