"""Properties of errors: one ValueError that names the argument, what was expected and what came."""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from copy import deepcopy
from functools import partial

import pytest
import torch

from arcore.model import AutoregressiveModel
from tests.arcore.cases import cases_where, every_model, models_where
from tests.support.cases import Case, create, declares, event_of, is_discrete
from tests.support.refusals import refuses

X = torch.zeros(2, 1, 3, 3)
MASK = torch.ones(3, 3).bool()[None]
LABELS = torch.zeros(2).long()
BAD_CALLS = [
    (lambda m: m.log_prob(X[0]), ["x", "(batch, 1, 3, 3)", "(1, 3, 3)"]),
    (lambda m: m.log_prob(X[..., :2]), ["x", "(batch, 1, 3, 3)", "(2, 1, 3, 2)"]),
    (lambda m: m.log_prob(X.tolist()), ["x", "tensor", "list"]),
    (lambda m: m(X[0]), ["x", "(batch, 1, 3, 3)", "(1, 3, 3)"]),
    (lambda m: m.log_prob(X, LABELS), ["condition", "None", "tensor"]),
    (lambda m: m.decoder(2, LABELS), ["condition", "None", "tensor"]),
    (lambda m: m.sample(0), ["n", ">= 1", "0"]),
    (lambda m: m.sample(-3), ["n", ">= 1", "-3"]),
    (lambda m: m.sample(2.0), ["n", ">= 1", "2.0"]),
    (lambda m: m.sample(True), ["n", ">= 1", "True"]),
    (lambda m: m.sample(10**12), ["n", "at most 477,218,588 events of 9", "1000000000000"]),
    (lambda m: m.sample(2, LABELS), ["condition", "None", "tensor"]),
    (lambda m: m.sample(2, temperature=0), ["temperature", "a number > 0", "0"]),
    (lambda m: m.sample(2, temperature=float("nan")), ["temperature", "a number > 0", "nan"]),
    (lambda m: m.sample(2, temperature=True), ["temperature", "a number > 0", "True"]),
    (lambda m: m.sample(2, temperature="hot"), ["temperature", "a number > 0", "'hot'"]),
    (lambda m: m.impute(X, MASK.long()), ["observed", "bool", "int64"]),
    (lambda m: m.impute(X, [True]), ["observed", "bool", "[True]"]),
    (lambda m: m.impute(X, MASK[..., 0]), ["observed", "(2, 1, 3, 3)", "(1, 3)"]),
    (lambda m: m.impute(X, MASK.to_sparse()), ["observed", "a dense tensor", "sparse_coo"]),
    (lambda m: m.impute(X, MASK.to("meta")), ["observed", "a dense tensor", "the meta device"]),
    (lambda m: m(X.to_sparse()), ["x", "a dense tensor", "sparse_coo"]),
    (lambda m: deepcopy(m).to("meta").sample(2), ["weights", "numbers", "on the meta device"]),
]
BAD_LEVELS = [
    (lambda m: m.log_prob(X + 2), ["x", "[0, 2)", "[2, 2]"]),
    (lambda m: m.log_prob(X + 0.5), ["x", "integer levels", "fractional"]),
    (lambda m: m(X + 0.5), ["x", "integer levels", "fractional"]),
    (lambda m: m(X.long() + 2), ["x", "[0, 2)", "[2, 2]"]),
    (lambda m: m.log_prob(X + torch.inf), ["x", "[0, 2)", "inf"]),
    (lambda m: m.log_prob(X.to(torch.complex64)), ["x", "integer levels", "complex64"]),
    (lambda m: m.impute(X + 2, MASK), ["x", "[0, 2)", "2"]),
]
BAD_REALS = [
    (lambda m: m.log_prob(X.long()), ["x", "floating-point", "int64"]),
    (lambda m: m.log_prob(X + torch.nan), ["x", "finite", "NaN"]),
    (lambda m: m.log_prob(X - torch.inf), ["x", "finite", "infinity"]),
    (lambda m: deepcopy(m).float().log_prob(X.double() + 1e300), ["x", "finite in torch.float32"]),
    (lambda m: m.log_prob(X.to(torch.complex64)), ["x", "floating-point", "complex64"]),
    (lambda m: m.sample(2, temperature=0.5), ["temperature", "1 for a mixture", "0.5"]),
    (lambda m: m.impute(X, MASK, temperature=2.0), ["temperature", "1 for a mixture", "2.0"]),
    (lambda m: m.impute(X + torch.nan, MASK), ["x", "finite", "NaN"]),
    (lambda m: m.impute(X.long(), MASK), ["x", "floating-point", "int64"]),
]
BAD_CLASSES = [
    (None, ["condition", "(2,)", "None"]),
    ([0, 1], ["condition", "(2,)", "[0, 1]"]),
    (torch.zeros(3).long(), ["condition", "(2,)", "(3,)"]),
    (torch.zeros(2, 1).long(), ["condition", "(2,)", "(2, 1)"]),
    (torch.zeros(2), ["condition", "int64", "float32"]),
    (torch.zeros(2).byte(), ["condition", "int64", "uint8"]),
    (LABELS.to_sparse(), ["condition", "a dense tensor", "sparse_coo"]),
    (LABELS.to("meta"), ["condition", "a tensor on cpu", "meta"]),
    (LABELS - 1, ["condition", "[0, 3)", "-1"]),
    (torch.tensor([0, 3]), ["condition", "[0, 3)", "3"]),
]


@functools.cache
def built(kind: type[AutoregressiveModel], num_classes: int | None = None) -> AutoregressiveModel:
    """A model, the same for all calls: what is refused changes nothing."""
    given = {} if num_classes is None else {"num_classes": num_classes}
    return create(kind, event_of(kind), **given)


@every_model
def test_bad_arguments_and_values_are_named(kind: type[AutoregressiveModel]) -> None:
    for call, parts in [*BAD_CALLS, *(BAD_LEVELS if is_discrete(kind) else BAD_REALS)]:
        refuses(lambda call=call: call(built(kind)), parts)


@models_where(lambda kind: declares(kind, "num_classes"))
def test_bad_classes_are_named(kind: type[AutoregressiveModel]) -> None:
    model = built(kind, num_classes=3)
    calls: list[Callable[[object], object]] = [
        *(partial(method, X) for method in (model, model.log_prob, model.conditionals)),
        *(partial(method, 2) for method in (model.sample, model.decoder)),
        partial(model.impute, X, MASK),
    ]
    for condition, parts in BAD_CLASSES:
        for call in calls:
            refuses(partial(call, condition), parts)


@cases_where(lambda case: case.condition(1) is not None)
def test_a_condition_of_another_kind_is_refused(case: Case) -> None:
    """Whatever it is conditioned on: no condition, too few rows, an axis or a dtype too much."""
    model, x, condition = case.build(), case.values(2), case.condition(2)
    other = torch.int64 if condition.is_floating_point() else torch.float32
    for bad in (None, condition.tolist(), condition[:1], condition[..., None], condition.to(other)):
        for method in (model.log_prob, model, model.conditionals):
            refuses(lambda method=method, bad=bad: method(x, bad), ["condition", "expected"])
        refuses(lambda bad=bad: model.sample(2, bad), ["condition", "expected"])
    wrong = condition - 64 if other == torch.float32 else condition * torch.nan
    refuses(lambda: model.log_prob(x, wrong), ["condition", "expected"])


def bad_values(field: dataclasses.Field) -> list[object]:
    """Values that no hyperparameter of a field's type has; true is no number."""
    kind = inspect.formatannotation(field.type).strip("'")
    if kind == "bool":
        return [1, "yes"]
    if kind == "str":
        return ["nope", ["raster"], 3]
    if "tuple" in kind:
        return [3, "no", [-1], ["a"], [True, *(field.default or ())[1:]]]
    fraction = {"dropout": [1.0]}.get(field.name, [2.5] if "int" in kind else [])
    return [True, "3", -100, *fraction]


@every_model
def test_a_hyperparameter_of_another_type_or_sign_is_named(kind: type[AutoregressiveModel]) -> None:
    for field in dataclasses.fields(kind.Config):
        for value in bad_values(field):
            with pytest.raises(ValueError, match=f"^{field.name}: expected .*, got "):
                create(kind, event_of(kind), **{field.name: value})


@models_where(lambda kind: hasattr(kind, "member"))
def test_true_is_no_member(kind: type[AutoregressiveModel]) -> None:
    for index in (True, -1, 0.5, "0"):
        refuses(lambda i=index: create(kind, event_of(kind)).member(i), ["index", repr(index)])


@models_where(lambda kind: any(f.name == "first_kernel" for f in dataclasses.fields(kind.Config)))
def test_a_first_kernel_sees_something(kind: type[AutoregressiveModel]) -> None:
    """Of size one it has nothing but the pixel itself, which it must not see."""
    refuses(lambda: create(kind, event_of(kind), first_kernel=1), ["first_kernel", ">= 3", "1"])
