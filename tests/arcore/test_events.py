"""Events: construction, checking, plain types, and the one conversion of units."""

import math
from collections.abc import Callable

import pytest
import torch

import arcore
from arcore.events import Binary, Event, Gray, Levels, Real, from_dict, resized, to_dict
from arcore.units import bits_per_dim_to_nats, nats_to_bits_per_dim
from tests.support.refusals import refuses

EVENTS = [
    *(Binary((1, 28, 28)), Levels(17, (1, 8, 8)), Levels(2, (4,)), Binary((None,))),
    Gray((2, 1, 3, 3)),
    *(Real((11,)), Real((1, 8, 8), bin_width=1 / 17)),
]


@pytest.mark.parametrize("event", EVENTS, ids=str)
def test_plain_types_describe_an_event(event: Event) -> None:
    assert from_dict(to_dict(event)) == event


def test_events_are_values() -> None:
    assert Binary([2, 3]) == Binary((2, 3)) and hash(Binary([2, 3])) == hash(Binary((2, 3)))
    assert Binary((3,)) != Levels(2, (3,))
    assert Levels(5, (3, 32, 32)).size == 3072
    with pytest.raises(AttributeError):
        Binary((2,)).shape = (3,)


def test_units_convert_both_ways() -> None:
    event = Levels(256, (3, 32, 32))
    assert nats_to_bits_per_dim(3072 * math.log(256), event) == pytest.approx(8, abs=1e-12)
    assert nats_to_bits_per_dim(torch.tensor([math.log(2)]), Binary((1,))).item() == 1
    assert bits_per_dim_to_nats(nats_to_bits_per_dim(88.33, event), event) == pytest.approx(88.33)


def test_a_dequantised_density_counts_bits_of_its_levels() -> None:
    """A density that is uniform on [0, 1) costs log2(17) bits, as do 17 equally likely levels."""
    event = Real((1, 8, 8), bin_width=1 / 17)
    assert nats_to_bits_per_dim(0.0, event) == pytest.approx(math.log2(17), abs=1e-12)
    # The density that puts everything into the right bin, evenly: 17 on each.
    assert nats_to_bits_per_dim(-64 * math.log(17), event) == pytest.approx(0, abs=1e-12)
    assert bits_per_dim_to_nats(nats_to_bits_per_dim(-88.33, event), event) == pytest.approx(-88.33)
    assert nats_to_bits_per_dim(1.0, Real((64,))) == 1 / (64 * math.log(2))
    error = nats_to_bits_per_dim(0.5, event, difference=True)
    assert error == pytest.approx(0.5 / 64 / math.log(2), abs=1e-15)


def test_check_returns_what_fits() -> None:
    for x in (torch.tensor([[0, 16]]), torch.tensor([[0.0, 16.0]]), torch.zeros(0, 2)):
        assert Levels(17, (2,)).check(x) is x
    x = torch.tensor([[True, False]])
    assert Binary((2,)).check(x) is x
    for length in (1, 5):
        Binary((None,)).check(torch.zeros(3, length))
    Real((2,)).check(torch.randn(3, 2))


TABLE = Levels([2, 5, 17])
UNFIT = ([], [2, 1], [2, True], [2, 2.0], "22", 2**63)
UNFIT_WIDTHS = (True, 0, -1, math.inf, math.nan, "1")
BAD = [
    (lambda: Binary(()), ["shape", "non-empty", "()"]),
    (lambda: Binary(3), ["shape", "sequence", "3"]),
    (lambda: Binary("12"), ["shape", "sequence", "'12'"]),
    (lambda: Binary((0, 2)), ["shape", "positive integers", "(0, 2)"]),
    (lambda: Real((2.0,)), ["shape", "positive integers", "(2.0,)"]),
    (lambda: Levels(17, (True,)), ["shape", "positive integers", "(True,)"]),
    (lambda: from_dict({"kind": "real", "shape": [2], "bins": 2}), ["event", "['bins', 'shape']"]),
    (lambda: Levels(1, (2,)), ["num_levels", "integer in [2, 2**63)", "1"]),
    (lambda: Levels(2.0, (2,)), ["num_levels", "integer", "2.0"]),
    (lambda: Binary((None, 2)).size, ["shape", "fixed", "(None, 2)"]),
    (lambda: Binary((None,)).check(torch.zeros(2, 2, 2)), ["x", "(batch, any)", "(2, 2, 2)"]),
    (lambda: Levels(3, (2,)).check(torch.full((1, 2), 3), "image"), ["image", "[0, 3)", "[3, 3]"]),
    (lambda: Real((2,)).check(torch.zeros(1, 2).long()), ["x", "floating-point", "int64"]),
    (lambda: Real((2,)).check(torch.full((1, 2), torch.nan)), ["x", "finite", "NaN"]),
    (lambda: from_dict({"kind": "levles", "shape": [2]}), ["event kind", "levels", "'levles'"]),
    (lambda: from_dict({"shape": [2]}), ["event kind", "binary", "None"]),
    (lambda: from_dict({"kind": "levels", "shape": [2]}), ["event", "num_levels", "['shape']"]),
    *((lambda n=n: Levels(n), ["num_levels", "expected an integer in [2, 2**63)"]) for n in UNFIT),
    (
        lambda: TABLE.check(torch.tensor([[1, 5, 16]])),
        ["x", "levels in [0, 5) in dimension 1, got"],
    ),
    (lambda: TABLE.check(torch.tensor([[1, 4, 17]])), ["x", "levels in [0, 17)"]),
    (lambda: Levels([2, 3], (3,)), ["shape", "expected (2,), as num_levels"]),
    (lambda: Levels([2, 3], 2), ["shape", "expected a non-empty sequence"]),
    (lambda: Levels(2), ["shape", "expected"]),
    (lambda: resized(TABLE, (3, 1)), ["event", "expected one number of levels"]),
    (lambda: arcore.create_model("pixelcnn", TABLE), ["event", "PixelCNN expects one number of"]),
    *((lambda w=w: Real((2,), w), ["bin_width", "a number > 0, got"]) for w in UNFIT_WIDTHS),
]


@pytest.mark.parametrize(("call", "parts"), BAD)
def test_bad_arguments_are_named(call: Callable[[], object], parts: list[str]) -> None:
    refuses(call, parts)


def test_a_bin_may_be_an_integer_wide() -> None:
    event = Real((2,), 1)
    assert event == Real((2,), 1.0) and isinstance(event.bin_width, float)


def test_levels_that_differ_make_a_vector() -> None:
    table = TABLE
    assert (table.shape, table.num_levels, table.size) == ((3,), 17, 3)
    assert table.levels_by_dimension == (2, 5, 17) and repr(table) == "Levels([2, 5, 17])"
    assert from_dict(to_dict(table)) == table != Levels(17, (3,))
    assert Levels([4, 4]) == Levels(4, (2,)) and Levels([4, 4]).uneven is None
    table.check(torch.tensor([[1, 4, 16], [0, 0, 0]]))
