"""What a training step is made of: averages of weights, and its precision."""

import platform
from pathlib import Path

import pytest
import torch
from torch.optim import swa_utils

import arcore
from pipeline.training import learner
from pipeline.training.collectives import Workers
from tests.support.waits import META, NoWaitingCopies

CPU = torch.device("cpu")


def make_model() -> arcore.AutoregressiveModel:
    event = arcore.events.Binary((5,))
    return arcore.create_model("made", event, hidden=[6], num_masks=4, order_agnostic=True)


def test_averages_are_those_of_torch() -> None:
    model = make_model().train()
    model.register_buffer("seen", torch.zeros(2))
    ours = learner.AveragedModel(model, 0.75)
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
    average = learner.AveragedModel(model, 0.75)
    with NoWaitingCopies():
        average.update(model)
        average.update(model)


@pytest.mark.skipif(
    platform.system() != "Linux" or platform.machine() != "x86_64", reason="reads Linux's flags"
)
def test_has_bfloat16_as_the_kernel_says() -> None:
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    assert learner.has_bfloat16(CPU) == bool({"avx512_bf16", "amx_bf16"} & set(flags))


def test_hardware_that_torch_does_not_ask_has_none() -> None:
    assert not learner.has_bfloat16(torch.device("meta"))


@pytest.mark.parametrize("others", [0.0, 1.0])
def test_one_worker_without_decides_for_all(monkeypatch, others: float) -> None:
    class Two(Workers):
        def minimum(self, values: torch.Tensor) -> list[float]:
            return [min(float(value), others) for value in values]

    monkeypatch.setattr(learner, "has_bfloat16", lambda device: True)
    assert learner.precision_of_steps("auto", Two(0, 2, CPU)) == (
        "bfloat16" if others else "float32"
    )


@pytest.mark.parametrize("asked", ["float32", "bfloat16", "float64"])
def test_what_is_asked_for_by_name_is_not_changed(asked: str) -> None:
    assert learner.precision_of_steps(asked, Workers(0, 1, CPU)) == asked
