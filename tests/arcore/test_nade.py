"""NADE: golden values, its hand-written backward pass, and its memory."""

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import arcore
from arcore.events import Binary
from arcore.layers import hidden_states
from tests.arcore.cases import cases_where
from tests.support.references import shift

every_nade = cases_where(lambda case: case.model == "nade" and case.discrete)
TIGHT = {"rtol": 1e-10, "atol": 1e-12}


def test_golden_value() -> None:
    """D = 2, H = 1, c = 0.5, W = (2, any), V = (1, -3), b = (0.25, -1), x = (1, 0):

    h_1 = s(0.5)     = 0.6224593   logit_1 = 0.25 + 1 * 0.6224593 =  0.8724593
    h_2 = s(0.5 + 2) = 0.9241418   logit_2 = -1 - 3 * 0.9241418   = -3.7724254
    ln p = ln s(0.8724593) + ln(1 - s(-3.7724254)) = -0.3491928 - 0.0227358 = -0.3719285
    """
    model = arcore.create_model("nade", Binary((2,)), hidden=1).double()
    model.hidden_bias.data.fill_(0.5)
    model.input_weight.data.view(2).copy_(torch.tensor([2.0, 99.0]))
    model.output_weight.data.view(2).copy_(torch.tensor([1.0, -3.0]))
    model.output_bias.data.view(2).copy_(torch.tensor([0.25, -1.0]))
    logits = model.conditionals(torch.tensor([[1, 0]])).logits[0]
    assert logits.tolist() == pytest.approx([0.8724593, -3.7724254], abs=1e-7)
    assert model.log_prob(torch.tensor([[1, 0]])).item() == pytest.approx(-0.3719285, abs=1e-7)


def naive_loss(model: arcore.AutoregressiveModel, x: Tensor, condition: Tensor | None) -> Tensor:
    p, k = model.hyperparameters, model.event.num_levels
    a = model.hidden_bias.expand(len(x), -1)
    if condition is not None:
        a = a + shift(model.class_bias, condition)
    loss = 0
    for t, index in enumerate(model.schedule):
        level = x.flatten(1)[:, int(index)]
        h = torch.sigmoid(a) if p.activation == "sigmoid" else torch.relu(a)
        logits = h @ model.output_weight[t].t() + model.output_bias[t]
        count = model.event.levels_by_dimension[int(index)]
        if logits.shape[1] == k:
            logits = logits[:, :count]
        if logits.shape[1] == 1:
            logits = torch.cat([torch.zeros_like(logits), logits], 1)
        loss = loss - logits.log_softmax(1).gather(1, level[:, None])[:, 0]
        if p.inputs == "one_hot":
            a = a + torch.nn.functional.one_hot(level, k)[:, 1:].double() @ model.input_weight[t]
        else:
            a = a + level[:, None].double() / (count - 1) * model.input_weight[t, 0]
    return loss


@every_nade
@pytest.mark.parametrize("skips", [True, False], ids=["cpu", "accelerator"])
def test_equals_a_loop_over_dimensions(case, skips: bool, monkeypatch) -> None:
    monkeypatch.setattr(hidden_states, "skips_zeros", lambda device: skips)
    model, x, condition = case.build(), case.values(20), case.condition(20)
    weights = torch.linspace(0.5, 2, 20, dtype=torch.float64)
    results = []
    for loss in (model(x, condition), naive_loss(model, x, condition)):
        gradients = torch.autograd.grad(
            (loss * weights).sum(), list(model.parameters()), allow_unused=True
        )
        zeros = [torch.zeros_like(parameter) for parameter in model.parameters()]
        filled = [z if g is None else g for g, z in zip(gradients, zeros, strict=True)]
        results.append([loss, *filled])
    for ours, reference in zip(*results, strict=True):
        assert_close(ours, reference, **TIGHT)


@pytest.mark.parametrize("hidden", [5, 500])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("skips", [True, False], ids=["cpu", "accelerator"])
def test_no_bit_of_a_conditional_depends_on_what_follows(
    hidden: int,
    dtype: torch.dtype,
    threads: int,
    skips: bool,
    generator: torch.Generator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The number of hidden states, hence every shape inside, depends on the data that follow."""
    monkeypatch.setattr(hidden_states, "skips_zeros", lambda device: skips)
    size, before = 60, torch.get_num_threads()
    model = arcore.create_model("nade", Binary((size,)), hidden=hidden, block=5).to(dtype)
    for parameter in model.parameters():
        parameter.data.normal_(std=0.3, generator=generator)
    x = (torch.rand(32, size, generator=generator) < 0.5).long()
    try:
        torch.set_num_threads(threads)
        logits = model.conditionals(x).logits
        for index in range(0, size, 7):  # each place in a block of 5
            other = x.clone()
            other[:, index] = 1 - other[:, index]
            changed = model.conditionals(other).logits[:, : index + 1]
            assert_close(changed, logits[:, : index + 1], rtol=0, atol=0)
    finally:
        torch.set_num_threads(before)


def test_memory_a_datum_grows_with_blocks_not_with_dimensions() -> None:
    size, hidden, block = 512, 256, 64
    model = arcore.create_model("nade", Binary((size,)), hidden=hidden, block=block)

    def saved_bytes(batch: int) -> int:
        seen: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            seen[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = model(torch.ones(batch, size, dtype=torch.uint8)).mean()
        assert loss.requires_grad
        return sum(seen.values())

    a_datum = (saved_bytes(32) - saved_bytes(16)) / 16
    allowed = 4 * (math.ceil(size / block) * hidden + 16 * size)
    assert 4 * size * hidden > 6 * allowed, "the setting would not tell the two apart"
    assert 0 < a_datum <= allowed


@pytest.mark.parametrize("activation", ["relu", "sigmoid"])
def test_a_gradient_has_no_gradient_of_its_own(activation: str) -> None:
    """A second derivative by what the backward pass wrote out would lack most of its terms."""
    model = arcore.create_model("nade", Binary((6,)), hidden=4, activation=activation)
    parameters = list(model.parameters())
    grads = torch.autograd.grad(model(torch.ones(2, 6)).sum(), parameters, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        torch.stack([grad.square().sum() for grad in grads]).sum().backward()
