"""Averages of weights: torch's own numbers, without waiting for a device."""

from __future__ import annotations

import torch
from torch.optim import swa_utils

import arcore
from pipeline.training.averaging import AveragedModel
from tests.support.waits import META, NoWaitingCopies


def make_model() -> arcore.AutoregressiveModel:
    event = arcore.events.Binary((5,))
    return arcore.create_model("made", event, hidden=[6], num_masks=4, order_agnostic=True)


def test_averages_are_those_of_torch() -> None:
    model = make_model().train()
    model.register_buffer("seen", torch.zeros(2))
    ours = AveragedModel(model, 0.75)
    theirs = swa_utils.AveragedModel(model, multi_avg_fn=swa_utils.get_ema_multi_avg_fn(0.75))
    for step in range(4):
        model.set_step(0, step)  # which replaces the masks
        with torch.no_grad():
            model.seen += 1
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
        ours.update(model)
        theirs.update_parameters(model)
        wanted = theirs.module.state_dict(keep_vars=True)
        for name, average in ours.module.state_dict(keep_vars=True).items():
            assert torch.equal(average, wanted[name]), name
    assert ours.module.seen.tolist() == [4, 4]
    scored = [average.module.eval()(torch.ones(1, 5)) for average in (ours, theirs)]
    assert torch.equal(*scored)


def test_an_update_does_not_wait() -> None:
    model = make_model().to(META)
    average = AveragedModel(model, 0.75)
    with NoWaitingCopies():
        average.update(model)
        average.update(model)
