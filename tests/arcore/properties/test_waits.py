"""Properties of speed on accelerators: the host never waits for the device inside a step."""

import contextlib
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from arcore.decoding import Decoder
from arcore.distributions.drawing import SamplingOptions
from arcore.events import Binary, Event, Table
from arcore.model import AutoregressiveModel
from arcore.primitives.row_noise import BatchSlice
from arcore.primitives.transfer import to_device
from tests.arcore.cases import FEWEST, FIRST, cases_where, every_option
from tests.support.cases import Case
from tests.support.waits import META, NoWaitingCopies, making_tensors

ROWS = 4
STEPS = 4  # of a model's first decoder, into the second row of an image; 2 of others


@pytest.fixture(autouse=True)
def on_meta(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the meta device in, which events refuse and torch has no autocast for."""
    making_tensors(monkeypatch)
    monkeypatch.setattr(Event, "check", lambda self, x, name="x": x)
    shape_alone = AutoregressiveModel._check_condition_shape
    monkeypatch.setattr(AutoregressiveModel, "_check_condition", shape_alone)
    monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: contextlib.nullcontext())
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda kind: False)


def on_device(case: Case) -> tuple[AutoregressiveModel, Tensor, Tensor | None]:
    model, x, condition = case.build().float(), case.values(ROWS), case.condition(ROWS)
    x = x if case.discrete else x.float()
    return model.to(META), x.to(META), None if condition is None else condition.to(META)


@every_option
def test_a_training_step_does_not_wait(case: Case) -> None:
    model, x, condition = on_device(case)
    model.train()
    with NoWaitingCopies():
        model.set_step(0, 3)
        model.sample_training_noise(BatchSlice(ROWS, ROWS))
        model(x, condition).sum().backward()
    assert any(p.grad is not None and p.grad.is_meta for p in model.parameters())


@cases_where(lambda case: case.kind.scores_parts and case in FEWEST)
def test_a_training_step_on_parts_does_not_wait(case: Case) -> None:
    """What counts is known to the host, as loaders leave it there."""
    model, x, condition = on_device(case)
    steps = model._num_steps(x)
    scored = torch.tensor([[0, steps], [0, 1], [steps - 1, steps], [1, 1]])
    with NoWaitingCopies():
        model.train()(x, condition, scored).sum().backward()


@every_option
@torch.no_grad()
def test_a_step_of_a_decoder_does_not_wait(case: Case) -> None:
    """It asks the device for kernels over its own tensors alone, which CUDA graphs can repeat."""
    model, _, condition = on_device(case)
    decoder = model.eval().decoder(ROWS, condition)
    event = case.event  # numbers of columns come from the host
    uneven = isinstance(event, Table) or (case.discrete and event.uneven is not None)
    with NoWaitingCopies(at_all=not uneven):
        steps = STEPS if case is FIRST[case.model] else 2
        for _ in decoder.blocks[:steps]:
            decoder.push(decoder.draw(None))
        assert decoder.position == min(len(decoder.blocks), steps)
        if isinstance(case.event, Binary) and type(decoder).draw_rest is not Decoder.draw_rest:
            decoder.draw_rest(SamplingOptions())
            assert decoder.position == len(decoder.blocks)


@pytest.mark.parametrize(
    "wait", [lambda x: x.sum().item(), lambda x: x.nonzero(), torch.Tensor.cpu]
)
def test_a_wait_is_seen(wait: Callable[[Tensor], object]) -> None:
    with pytest.raises((RuntimeError, NotImplementedError), match="meta"):
        wait(torch.ones(2, device=META))


def test_a_copy_to_cuda_is_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a tensor that says what is done with it, since there is no CUDA here."""
    done = []
    monkeypatch.setattr(Tensor, "pin_memory", lambda self: done.append("pin") or self)
    monkeypatch.setattr(
        Tensor, "to", lambda self, device, non_blocking=False: done.append((device, non_blocking))
    )
    for kind in ("cuda", "mps"):
        to_device(torch.ones(2), torch.device(kind))
    assert done == ["pin", (torch.device("cuda"), True), (torch.device("mps"), False)]
