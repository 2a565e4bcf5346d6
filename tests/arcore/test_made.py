"""MADE: golden value, dense reference, masks of a step, members, plain loops."""

import copy

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import arcore
from arcore.events import Binary
from arcore.models.made import MADE
from tests.arcore.cases import cases_where
from tests.support.cases import Case, randomize
from tests.support.dependence import influence, logits_of
from tests.support.events import NINE
from tests.support.references import shift, without_missing_levels
from tests.support.refusals import raising

X = torch.arange(6 * 9).view(6, 1, 3, 3) % 5 % 2


def made(**hyperparameters: object) -> MADE:
    model = arcore.create_model("made", NINE, **{"hidden": [12, 12], **hyperparameters})
    return randomize(model.double())


def masks_of(model: MADE) -> list[Tensor]:
    return [module.mask for module in model.modules() if hasattr(module, "mask")]


def same_masks(a: MADE, b: MADE) -> bool:
    return all(torch.equal(x, y) for x, y in zip(masks_of(a), masks_of(b), strict=True))


def test_golden_value() -> None:
    """D = 2, one relu unit (degree 1, so it sees x_1 and feeds output 2), x = (1, 1):

    h       = relu(-0.5 + 1.5 * 1)   = 1
    logit_1 = c_1                    = 0.3
    logit_2 = c_2 + V h + A x_1      = -1 + 2 * 1 + 0.7 * 1 = 1.7
    ln p    = ln s(0.3) + ln s(1.7)  = -0.5543552 - 0.1677860 = -0.7221413
    Masked weights are set to 99 and must not matter.
    """
    model = arcore.create_model("made", Binary((2,)), hidden=[1]).double()
    hidden = model.hidden_layers[0]
    hidden.weight.data.copy_(torch.tensor([[1.5, 99.0]]))
    hidden.bias.data.fill_(-0.5)
    model.output.weight.data.copy_(torch.tensor([[99.0], [2.0]]))
    model.output.bias.data.copy_(torch.tensor([0.3, -1.0]))
    model.direct.weight.data.copy_(torch.tensor([[99.0, 99.0], [0.7, 99.0]]))
    x = torch.tensor([[1, 1]])
    assert model.conditionals(x).logits[0].tolist() == pytest.approx([0.3, 1.7])
    assert model.log_prob(x).item() == pytest.approx(-0.7221413, abs=1e-7)


def dense(model: MADE, x: Tensor, condition: Tensor | None) -> tuple[Tensor, Tensor]:
    """MADE by its definition, mask entries one by one; also which inputs reach which outputs."""
    p, k, size = model.hyperparameters, model.event.num_levels, model.event.size
    step = {int(index): t + 1 for t, index in enumerate(model.schedule)}
    flat = x.flatten(1)
    if p.inputs == "one_hot":
        features = torch.nn.functional.one_hot(flat, k)[..., 1:].double().flatten(1)
        below = [step[d] for d in range(size) for _ in range(k - 1)]
    else:
        features = flat.double() / (torch.tensor(model.event.levels_by_dimension) - 1)
        below = [step[d] for d in range(size)]
    outputs = [step[d] for d in range(size) for _ in range(model.num_logits)]

    def apply(layer: torch.nn.Module, mask: Tensor, h: Tensor) -> Tensor:
        y = h @ (layer.weight * mask).t()
        if layer.conditioning is not None:
            y = y + (layer.conditioning * mask).sum(1)
        return y if layer.bias is None else y + layer.bias

    inputs, h, paths = below, features, torch.eye(len(below)).double()
    for depth, layer in enumerate(model.hidden_layers):
        degrees = model.degrees[depth].tolist()
        mask = torch.tensor([[float(m >= n) for n in below] for m in degrees]).double()
        a = apply(layer, mask, h)
        if depth == 0 and condition is not None:
            a = a + shift(model.class_hidden, condition)
        h = {"relu": torch.relu, "tanh": torch.tanh, "sigmoid": torch.sigmoid}[p.activation](a)
        below, paths = degrees, mask @ paths
    mask = torch.tensor([[float(m > n) for n in below] for m in outputs]).double()
    logits, paths = apply(model.output, mask, h), mask @ paths
    if p.direct:
        direct = torch.tensor([[float(m > n) for n in inputs] for m in outputs]).double()
        logits, paths = logits + apply(model.direct, direct, features), paths + direct
    if condition is not None:
        logits = logits + shift(model.class_output, condition)

    order = torch.cat(model.schedule)
    logits = without_missing_levels(logits.view(len(x), size, -1), model.event)[:, order]
    if k > 2 or not isinstance(model.event, Binary):
        logits = logits.log_softmax(-1)
    per_input = paths.view(size, model.num_logits, size, -1).sum((1, 3))
    return logits, (per_input > 0)[order][:, order]


@cases_where(lambda case: case.model == "made" and case.discrete)
def test_outputs_are_and_see_what_dense_masks_let_through(case: Case) -> None:
    model, x, condition = case.build(), case.values(64), case.condition(64)
    reference, reach = dense(model, x, condition)
    assert_close(logits_of(model, x, condition), reference, rtol=1e-10, atol=1e-11)
    earlier = torch.ones_like(reach).tril(-1)
    assert not (reach & ~earlier).any()
    assert not case.hyperparameters.get("direct", True) or torch.equal(reach, earlier)
    assert torch.equal(influence(model, x, condition), reach)


# -- masks of a step


@pytest.mark.parametrize("num_masks", [0, 3])
def test_masks_are_a_function_of_seed_and_step(num_masks: int) -> None:
    a, b = (made(num_masks=num_masks, order_agnostic=True) for _ in range(2))
    a.set_step(seed=1, step=2)
    for step in (9, 4, 2):  # another history
        b.set_step(seed=1, step=step)
    assert same_masks(a, b) and torch.equal(a.order, b.order)
    assert torch.equal(a(X), b(X))


@pytest.mark.parametrize("hidden", [[12], [12, 10, 11]], ids=str)
@pytest.mark.parametrize("connectivity", [True, False])
def test_a_list_of_masks_cycles_whatever_the_seed(connectivity: bool, hidden: list[int]) -> None:
    """Members make all masks anew, steps those that change."""
    agnostic = {"order_agnostic": True, "connectivity_agnostic": connectivity}
    model, losses = made(num_masks=3, hidden=hidden, **agnostic), []
    for step in range(7):
        model.set_step(seed=step, step=step)
        assert same_masks(model, model.member(step % 3))
        losses.append(model(X))
    for step in range(7):
        for other in range(step):
            same = torch.equal(losses[step], losses[other])
            assert same == ((step - other) % 3 == 0)


def test_a_layer_whose_degrees_stay_follows_those_below() -> None:
    """Of one unit the degree often repeats while those of the layer before it do not."""
    model, repeats = made(num_masks=40, hidden=[12, 1, 12]), 0
    for step in range(40):
        before = model.degrees[1]
        model.set_step(seed=0, step=step)
        repeats += torch.equal(before, model.degrees[1])
        assert same_masks(model, model.member(step))
    assert repeats > 1


@pytest.mark.parametrize("num_masks", [1, 2, 3])
def test_a_model_that_was_evaluated_in_inference_mode_trains(num_masks: int) -> None:
    agnostic = {"order_agnostic": True, "connectivity_agnostic": False} if num_masks > 1 else {}
    model = made(num_masks=num_masks, **agnostic)
    with torch.inference_mode():
        model.eval()
        model.log_prob(X)
    model.log_prob(X).sum().backward()
    model.train()
    model(X).mean().backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize(("orders", "masks"), [(True, True), (True, False), (False, True)])
def test_what_is_agnostic_varies_and_nothing_else(orders: bool, masks: bool) -> None:
    agnostic = {"order_agnostic": orders, "connectivity_agnostic": masks}
    model = made(num_masks=4, ordering="snake", **agnostic)
    members = [model.member(i) for i in range(4)]
    assert len({tuple(member.order.tolist()) for member in members}) == (4 if orders else 1)
    degrees = {tuple(torch.cat(member.degrees).tolist()) for member in members}
    assert len(degrees) == (4 if masks else 1)


@pytest.mark.parametrize("num_masks", [0, 1, 3])
def test_evaluation_by_member_0_does_not_depend_on_the_last_step(num_masks: int) -> None:
    model = made(num_masks=num_masks, order_agnostic=num_masks != 1)
    expected = model.log_prob(X)  # a new model is under mask 0
    assert torch.equal(model.member(0).log_prob(X), expected)
    model.set_step(seed=5, step=4)
    assert torch.equal(model.member(0).log_prob(X), expected)


@pytest.mark.parametrize("connectivity_agnostic", [False, True])
@pytest.mark.parametrize("num_masks", [0, 3])
def test_under_an_ordering_the_masks_are_those_of_a_member(
    num_masks: int, connectivity_agnostic: bool
) -> None:
    several = {"num_masks": num_masks, "connectivity_agnostic": connectivity_agnostic}
    model = made(order_agnostic=True, **several)
    for index in range(3):
        member = model.member(index)
        assert same_masks(member.under(member.order), member)
        order = member.order.flip(0)
        view = member.under(order)
        assert torch.equal(torch.cat(view.schedule), order) and not same_masks(view, member)
        assert view.output.weight is model.output.weight and not view.changes_by_step
        assert torch.equal(torch.cat(view.eval().schedule), order)
        assert same_masks(view.member(index), member), "a member has its own ordering again"


def test_an_ordering_without_masks_for_it_is_refused() -> None:
    order = torch.arange(9)
    for model in (made(), made(num_masks=3)):
        with pytest.raises(ValueError, match="order_agnostic: expected True"):
            model.under(order)
    model = made(num_masks=3, order_agnostic=True)
    for bad in (torch.zeros(9).long(), torch.arange(5), [0, 1]):
        with pytest.raises(ValueError, match="order: expected a permutation"):
            model.under(bad)


# -- steps that nobody counts


@pytest.mark.parametrize(("num_masks", "compiled"), [(0, False), (3, False), (3, True)])
@pytest.mark.filterwarnings("ignore")  # torch's own, about its compiler
def test_a_plain_loop_takes_the_steps_that_a_trainer_would_give(
    num_masks: int, compiled: bool
) -> None:
    plain, given = (made(num_masks=num_masks, order_agnostic=True) for _ in range(2))
    call = torch.compile(plain, backend="aot_eager") if compiled else plain
    for step in range(5):
        given.set_step(seed=0, step=step)
        losses = call(X), given(X)
        assert_close(*losses)
        for loss in losses:
            loss.mean().backward()
    for ours, theirs in zip(plain.parameters(), given.parameters(), strict=True):
        assert_close(ours.grad, theirs.grad)
    torch._dynamo.reset()


def test_a_step_that_fails_leaves_the_masks_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    model = made(num_masks=3, num_classes=3)
    classes = torch.zeros(len(X)).long()
    own = model.log_prob(X, classes)
    model(X, classes)  # the next step is under other masks
    with monkeypatch.context() as failing, pytest.raises(IndexError):
        failing.setattr(model, "_objective", raising(IndexError()))
        model(X, classes)
    assert torch.equal(model.log_prob(X, classes), own) and same_masks(model, model.member(0))


def test_counting_leaves_what_is_scored_and_drawn_as_it_is() -> None:
    model = made(num_masks=3, order_agnostic=True)
    own, member = model.log_prob(X), model.member(1)
    of_member = member(X)
    with torch.no_grad():
        assert torch.equal(-model(X), own) and torch.equal(-model(X), own)  # no gradients: no step
    losses = [model(X) for _ in range(3)]
    assert torch.equal(-losses[0], own) and not torch.equal(losses[1], losses[0])
    assert torch.equal(model.log_prob(X), own) and same_masks(model, model.member(0))
    assert torch.equal(member(X), of_member) and torch.equal(member(X), of_member)
    twin = copy.deepcopy(model)
    twin(X), twin(X)
    assert torch.equal(model(X), losses[0]) and torch.equal(twin(X), losses[2])
    model.eval()
    assert torch.equal(-model(X), own) and torch.equal(-model(X), own)
    sum(losses).mean().backward()  # the steps' masks are those of their backward passes


def test_a_given_step_counts_until_evaluation() -> None:
    model = made(num_masks=4, order_agnostic=True)
    model.set_step(seed=0, step=2)
    third, same = model(X), model(X)
    assert torch.equal(third, model.member(2)(X)) and torch.equal(third, same)
    model.eval().train()
    assert torch.equal(model(X), model.member(3)(X))
    assert torch.equal(model(X), model.member(0)(X))
