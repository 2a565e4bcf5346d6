"""In which order stale stages run, and which of them side by side."""

from __future__ import annotations

from pipeline.repro.stage_plan import StagePlan, stale_among

NEEDS = {
    "code": set(),
    "fetch@a": {"code"},
    "preprocess@a": {"fetch@a", "code"},
    "train@one": {"preprocess@a", "code"},
    "evaluate@one": {"train@one", "preprocess@a", "code"},
    "tune@two": {"preprocess@a", "code"},
    "train@two": {"tune@two", "preprocess@a", "code"},
    "evaluate@two": {"train@two", "preprocess@a", "code"},
    "codecs@a": {"preprocess@a", "code"},
    "report@a": {"evaluate@one", "evaluate@two", "codecs@a", "code"},
    "register@a": {"evaluate@one", "evaluate@two", "code"},
}
ORDERED = list(NEEDS)


def plan(changed: set[str]) -> StagePlan:
    needs = {name: frozenset(before) for name, before in NEEDS.items()}
    return StagePlan(stale_among(ORDERED, needs, changed), needs)


def test_all_that_follows_a_change_is_stale() -> None:
    assert plan(set()).stale == ()
    assert plan({"train@two"}).stale == ("train@two", "evaluate@two", "report@a", "register@a")
    assert plan({"code"}).stale == tuple(ORDERED)


def test_data_come_first_then_chains_side_by_side_then_what_puts_them_together() -> None:
    first, middle, last = plan({"code"}).phases()
    assert first == [("code", "fetch@a", "preprocess@a")]
    assert middle == [
        ("train@one", "evaluate@one"),
        ("tune@two", "train@two", "evaluate@two"),
        ("codecs@a",),
    ]
    assert last == [("report@a",), ("register@a",)]


def test_no_stage_runs_before_what_it_needs() -> None:
    for changed in NEEDS:
        done: set[str] = set()
        stale = set(plan({changed}).stale)
        for phase in plan({changed}).phases():
            for chain in phase:
                for number, name in enumerate(chain):
                    needed = NEEDS[name] & stale
                    assert needed <= done | set(chain[:number]), "others run side by side"
            done |= {name for chain in phase for name in chain}
        assert done == stale
