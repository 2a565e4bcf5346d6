"""Properties of order: a conditional sees earlier blocks of the schedule and nothing else."""

import torch

from tests.arcore.cases import cases_where, every_case
from tests.support.cases import Case
from tests.support.dependence import influence


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
