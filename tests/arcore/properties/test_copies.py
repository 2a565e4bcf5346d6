"""Properties of copying and rebuilding; those of saving are in tests/arcore/test_saving.py."""

import copy

import torch

from tests.arcore.cases import every_option
from tests.support.cases import Case, randomize


@every_option
def test_construction_is_a_function_of_the_seed(case: Case) -> None:
    first, second = [], []
    for parameters in (first, second):
        torch.manual_seed(7)
        model = case.create()
        parameters += model.parameters()
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert str(case.event) in repr(model) and "parameters=" in repr(model)


@every_option
def test_deepcopy_scores_the_same_and_shares_nothing(case: Case) -> None:
    model, x, condition = case.build(), case.values(5), case.condition(5)
    expected = model.log_prob(x, condition).detach()
    twin = copy.deepcopy(model)
    randomize(model, seed=1)
    assert torch.equal(twin.log_prob(x, condition), expected)
    assert not torch.equal(model.log_prob(x, condition), expected)


@every_option
def test_built_on_meta_and_loaded_scores_the_same(case: Case) -> None:
    model, x, condition = case.build(), case.values(4), case.condition(4)
    with torch.device("meta"):
        other = case.create().double()
    tensors = [*other.parameters(), *other.buffers()]
    assert {t.device.type for t in tensors if t.is_floating_point()} == {"meta"}
    assigned = copy.deepcopy(other)
    other = other.to_empty(device="cpu")
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.log_prob(x, condition), model.log_prob(x, condition))
    assigned.load_state_dict(model.state_dict(), assign=True)
    assert torch.equal(assigned.log_prob(x, condition), model.log_prob(x, condition))
    assert not [name for name, buffer in assigned.named_buffers() if buffer.is_meta]
