"""NADE and RNADE: golden values, their papers' loop, gradients and memory."""

import copy
import gc
import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Laplace, Normal
from torch.testing import assert_close

import arcore
from arcore.events import Binary, Event, Real, is_levels
from arcore.layers import hidden_states
from tests.arcore.cases import cases_where
from tests.support.cases import Case
from tests.support.references import shift


def gradients(model: arcore.AutoregressiveModel, loss: Tensor) -> dict[str, Tensor]:
    weights = torch.linspace(0.5, 2, len(loss), dtype=torch.float64)
    names, values = zip(*model.named_parameters(), strict=True)
    found = torch.autograd.grad((loss * weights).sum(), values, allow_unused=True)
    return {
        name: torch.zeros_like(value) if grad is None else grad
        for name, value, grad in zip(names, values, found, strict=True)
    }


# -- NADE


def test_golden_value_of_nade() -> None:
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


def nade_loss(model: arcore.AutoregressiveModel, x: Tensor, condition: Tensor | None) -> Tensor:
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


@cases_where(lambda case: case.model == "nade" and case.discrete)
@pytest.mark.parametrize("skips", [True, False], ids=["cpu", "accelerator"])
def test_nade_equals_a_loop_over_dimensions(case, skips: bool, monkeypatch) -> None:
    monkeypatch.setattr(hidden_states, "skips_zeros", lambda device: skips)
    model, x, condition = case.build(), case.values(20), case.condition(20)
    ours, reference = model(x, condition), nade_loss(model, x, condition)
    assert_close(ours, reference, rtol=1e-10, atol=1e-12)
    wanted = gradients(model, reference)
    for name, grad in gradients(model, ours).items():
        assert_close(grad, wanted[name], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("hidden", [5, 500])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("skips", [True, False], ids=["cpu", "accelerator"])
def test_no_bit_of_a_conditional_depends_on_what_follows(
    hidden: int, dtype: torch.dtype, threads: int, skips: bool, generator, monkeypatch
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


@pytest.mark.parametrize("activation", ["relu", "sigmoid"])
def test_a_gradient_has_no_gradient_of_its_own(activation: str) -> None:
    """A second derivative by what the backward pass wrote out would lack most of its terms."""
    model = arcore.create_model("nade", Binary((6,)), hidden=4, activation=activation)
    parameters = list(model.parameters())
    grads = torch.autograd.grad(model(torch.ones(2, 6)).sum(), parameters, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        torch.stack([grad.square().sum() for grad in grads]).sum().backward()


# -- RNADE

TIGHT = {"rtol": 1e-10, "atol": 1e-10}


def test_golden_value_of_rnade() -> None:
    """D = 2, H = 1, K = 1, c = 1, W = (2, any), rho = (1, 0.5), x = (-0.25, 1):

    h_1 = relu(1 * 1) = 1                     mu_1 = 0.5 + 1 = 1.5      s_1 = exp(0.2 - 0.2) = 1
    h_2 = relu(0.5 (1 - 0.25 * 2)) = 0.25     mu_2 = 0.25 * 4 = 1       s_2 = exp(-1 + 0.25 * 4) = 1
    ln p = -ln(2 pi) - (1.75^2 + 0) / 2 = -1.8378771 - 1.5312500 = -3.3691271
    """
    model = arcore.create_model("rnade", Real((2,)), hidden=1, components=1).double()
    values = {
        "hidden_bias": [1.0], "input_weight": [2.0, 99.0], "rho": [1.0, 0.5],
        "mean_weight": [1.0, 4.0], "mean_bias": [0.5, 0.0],
        "shape_weight": [3.0, -0.2, 7.0, 4.0], "shape_bias": [0.0, 0.2, 0.0, -1.0],
    }  # fmt: skip
    for name, value in values.items():
        model.get_parameter(name).data.view(-1).copy_(torch.tensor(value))
    x = torch.tensor([[-0.25, 1.0]], dtype=torch.float64)
    assert model.log_prob(x).item() == pytest.approx(-3.3691271, abs=1e-7)


def rnade_loss(model: arcore.AutoregressiveModel, x: Tensor, condition: Tensor | None) -> Tensor:
    p = model.hyperparameters
    a = model.hidden_bias.expand(len(x), -1)
    if condition is not None:
        a = a + shift(model.class_bias, condition)
    loss = 0
    for t, index in enumerate(model.schedule):
        value = x.flatten(1)[:, int(index)]
        h = torch.relu(model.rho[t] * a)
        means = h @ model.mean_weight[t].t() + model.mean_bias[t]
        z, log_scales = (h @ model.shape_weight[t].t() + model.shape_bias[t]).chunk(2, 1)
        family = {"gaussian": Normal, "laplace": Laplace}[p.component]
        terms = family(means, log_scales.clamp(min=p.min_log_scale).exp()).log_prob(value[:, None])
        loss = loss - torch.logsumexp(z.log_softmax(1) + terms, 1)
        a = a + value[:, None] * model.input_weight[t]
    return loss


@cases_where(lambda case: case.model == "rnade")
def test_rnade_equals_a_loop_over_dimensions(case: Case) -> None:
    model, x, condition = case.build(), case.values(20), case.condition(20)
    ours, reference = model(x, condition), rnade_loss(model, x, condition)
    assert_close(ours, reference, **TIGHT)
    if not case.hyperparameters.get("sigma_preconditioner"):
        wanted = gradients(model, reference)
        for name, grad in gradients(model, ours).items():
            assert_close(grad, wanted[name], **TIGHT)


@pytest.mark.parametrize("block", [2, 4, 32])
@pytest.mark.parametrize("component", ["gaussian", "laplace"])
def test_preconditioner_scales_the_gradient_of_the_means_own_parameters_alone(
    block: int, component: str
) -> None:
    options = {"hidden": 6, "components": 3, "block": block, "component": component}
    plain, scaled = (
        Case("rnade", Real((4,)), {**options, "sigma_preconditioner": on}).build()
        for on in (False, True)
    )
    x = Case("rnade", Real((4,))).values(1)  # one row: the scale is one number a component
    assert torch.equal(plain(x), scaled(x))
    before, after = gradients(plain, plain(x)), gradients(scaled, scaled(x))
    scales = plain.conditionals(x).log_scales[0].exp().detach()
    assert scales.std() > 0.1
    assert_close(after.pop("mean_bias"), before.pop("mean_bias") * scales, **TIGHT)
    assert_close(after.pop("mean_weight"), before.pop("mean_weight") * scales[..., None], **TIGHT)
    for name in before:
        assert_close(after[name], before[name], **TIGHT)


@pytest.mark.parametrize("component", ["gaussian", "laplace"])
def test_first_guess_covers_the_range_evenly(component: str) -> None:
    event = Real((3,))
    model = arcore.create_model("rnade", event, components=4, component=component)
    first = model.conditionals(torch.zeros(1, 3))
    assert first.means[0, 0].tolist() == pytest.approx([-2.25, -0.75, 0.75, 2.25])
    assert first.log_scales[0, 0].tolist() == pytest.approx([math.log(1.5)] * 4)
    assert first.log_weights[0, 0].tolist() == pytest.approx([math.log(1 / 4)] * 4)
    unit = arcore.create_model("rnade", Real((3,), bin_width=1 / 17), components=2)
    assert unit.conditionals(torch.zeros(1, 3)).means[0, 0].tolist() == [0.25, 0.75]


BAD = [
    ({"min_log_scale": math.inf}, "min_log_scale: expected a finite number, got inf"),
    ({"min_log_scale": -81.0}, "min_log_scale: expected a number of -80.0 or more, got -81.0"),
    ({"min_log_scale": "-7"}, "min_log_scale: expected a finite number, got '-7'"),
    ({"mean_range": [1, 1]}, r"mean_range: expected two rising finite numbers or null, got \(1, 1"),
    ({"mean_range": [0, math.nan]}, "mean_range: expected two rising finite numbers or null"),
    ({"mean_range": [-1e300, 1e300]}, "mean_range: expected two rising finite numbers or null"),
    ({"mean_range": [0, 5e-324]}, "mean_range: expected two rising finite numbers or null"),
    ({"min_log_scale": 1e39}, "min_log_scale: expected a finite number, got 1e"),
]


@pytest.mark.parametrize(("hyperparameters", "message"), BAD)
def test_bad_hyperparameters_are_named(hyperparameters: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        arcore.create_model("rnade", Real((2,)), **hyperparameters)


def test_scales_learn_from_a_floor_above_the_spacing_of_means() -> None:
    model = arcore.create_model("rnade", Real((4,)), min_log_scale=0.0, components=3)
    model(torch.randn(8, 4) * 3).mean().backward()
    assert model.shape_bias.grad is not None
    assert (model.shape_bias.grad[:, 3:] != 0).any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_far_from_every_mean_half_precision_scores_a_number(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model, x = arcore.create_model("rnade", Real((3,))).to(dtype), torch.full((1, 3), 200.0)
    exact = copy.deepcopy(model).double().log_prob(x.double())
    assert_close(model.log_prob(x.to(dtype)).double(), exact, rtol=0.02, atol=0)
    assert model.sample(2).dtype == dtype


# -- both


@pytest.mark.parametrize(
    ("name", "event", "block", "a_dimension", "ratio", "given"),
    [
        ("nade", Binary((128,)), 32, 18, 6, {}),
        ("rnade", Real((128,)), 32, 24 * 2, 4, {"components": 2}),
    ],
    ids=["nade", "rnade"],
)
def test_memory_a_datum_grows_with_blocks_not_with_dimensions(
    name: str, event: Event, block: int, a_dimension: int, ratio: int, given: dict[str, int]
) -> None:
    size, hidden = event.size, 256
    model = arcore.create_model(name, event, hidden=hidden, block=block, **given)

    def tensors() -> list[Tensor]:
        # by type alone, since the compiler's fake tensors have no storage
        return [x for x in gc.get_objects() if type(x) in (Tensor, torch.nn.Parameter)]

    def kept_bytes(batch: int) -> int:
        """Of all tensors that the graph of a loss keeps, those behind closures included."""
        seen: dict[int, int] = {}

        def note(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            seen[storage.data_ptr()] = storage.nbytes()
            return tensor

        x = torch.ones(batch, size, dtype=torch.uint8 if is_levels(event) else torch.float32)
        gc.collect()
        gc.freeze()  # what is there already is not listed
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            loss = model(x).mean()
        for thing in tensors():
            note(thing)
        assert loss.requires_grad
        for thing in (x, *model.parameters(), *model.buffers()):
            seen.pop(thing.untyped_storage().data_ptr(), None)
        return sum(seen.values())

    a_datum = (kept_bytes(16) - kept_bytes(8)) / 8
    allowed = 4 * (math.ceil(size / block) * hidden + a_dimension * size)
    assert 4 * size * hidden > ratio * allowed, "the setting would not tell the two apart"
    assert 0 < a_datum <= allowed
