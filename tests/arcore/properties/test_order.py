"""Properties of order: what a conditional sees of earlier blocks and of a map that is given."""

import pytest
import torch
from torch import Tensor

from arcore.events import Levels
from arcore.model import AutoregressiveModel
from tests.arcore.cases import cases_where, every_case, models_where
from tests.support.cases import Case, create, declares, exact_part, randomize
from tests.support.dependence import influence, parameters_of


@every_case
def test_schedule_partitions_the_event(case: Case) -> None:
    model = case.build()
    assert sorted(torch.cat(model.schedule).tolist()) == list(range(case.event.size))
    assert all(len(block) for block in model.schedule)
    assert {block.device.type for block in model.to("meta").schedule} == {"meta"}


@cases_where(lambda case: True, tiny=True)
def test_conditionals_depend_on_all_earlier_blocks_and_nothing_else(case: Case) -> None:
    model = case.build_exact()
    seen = influence(model, case.values(32), case.condition(32))
    block = torch.cat([torch.full_like(b, t) for t, b in enumerate(model.schedule)])
    earlier = block[:, None] > block[None, :]
    assert not (seen & ~earlier).any(), f"leaks:\n{seen.int()}"
    assert not case.full or (seen == earlier).all(), f"blind spots:\n{seen.int()}"


LONG, PLACE, REACH = 11, 8, 2  # the network of a map has two layers of 3 x 3
takes_maps = models_where(lambda kind: declares(kind, "condition_shape"))


def changed_by(
    kind: type[AutoregressiveModel], shape: tuple[int, int], place: int, **given: object
) -> Tensor:
    """Which pixels' conditionals a pixel of the map changes, so far along its long side."""
    height, width = shape
    model = create(kind, Levels(2, (1, *shape)), condition_shape=(2, *shape), **given)
    model = exact_part(randomize(model.double()).eval())
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(2, (8, 1, *shape), generator=generator)
    condition = torch.randint(-64, 64, (8, 2, *shape), generator=generator).double() / 64
    other = condition.clone()
    other[:, :, min(place, height - 1), min(place, width - 1)] += 1
    with torch.no_grad():
        a, b = (parameters_of(model.conditionals(x, c)) for c in (condition, other))
    return (a != b).reshape(8, height, width, -1).any(-1).any(0)


@takes_maps
@pytest.mark.parametrize("ordering", ["raster", "reverse", "column"])
def test_a_map_acts_from_its_own_pixel_on(kind: type[AutoregressiveModel], ordering: str) -> None:
    """The first conditional that changes is as far ahead of the pixel as the map's network sees.

    The image is long in the direction in which its rows, or columns, are drawn.
    """
    if ordering != "raster" and not declares(kind, "ordering"):
        pytest.skip("the model draws in one order")
    along = 1 if ordering == "column" else 0
    shape = (2, LONG) if ordering == "column" else (LONG, 2)
    given = {"ordering": ordering} if declares(kind, "ordering") else {}
    changed = changed_by(kind, shape, PLACE, **given)
    seen = changed.any(1 - along).nonzero().flatten().tolist()
    assert changed[(1, PLACE) if ordering == "column" else (PLACE, 1)]
    if ordering == "reverse":
        assert max(seen) == min(PLACE + REACH, LONG - 1)
    elif declares(kind, "factor") or declares(kind, "base_size"):  # it sees smaller images first
        assert PLACE - 3 * REACH <= min(seen) <= PLACE
    else:
        assert min(seen) == PLACE - REACH


@takes_maps
def test_a_map_is_not_mirrored(kind: type[AutoregressiveModel]) -> None:
    """In a row of 64 pixels the 61st acts on none of the first ten, as its mirror image would."""
    changed = changed_by(kind, (1, 64), 60)[0]
    assert changed[50:].any() and not changed[:10].any()
