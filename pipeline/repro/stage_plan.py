"""Which of DVC's stages a target needs, which of them are stale, and in what order they can run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import networkx
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.stage import Stage

from pipeline.core.errors import UserError, one_line

FIRST = ("code", "fetch", "preprocess")
LAST = ("report", "register")
Chain = tuple[str, ...]


@dataclass(frozen=True)
class StagePlan:
    """The stages that are to run.

    Attributes:
        stale: their names, each after what it needs.
        needs: names of the stages whose outputs each of them reads, stale or not.
    """

    stale: tuple[str, ...]
    needs: Mapping[str, frozenset[str]]

    def phases(self) -> tuple[list[Chain], list[Chain], list[Chain]]:
        """Return chains of stages to run one after the other, side by side, and so again.

        The first make data, the second models and numbers, the last put those together. What no
        other chain waits for is in one: a training with its evaluation, and the search before it.
        """
        first: list[str] = []
        middle: list[str] = []
        last: list[str] = []
        for name in self.stale:
            kind = kind_of(name)
            (first if kind in FIRST else last if kind in LAST else middle).append(name)
        return [tuple(first)] if first else [], self._chains(middle), [(name,) for name in last]

    def _chains(self, names: Sequence[str]) -> list[Chain]:
        """Connect stages with what they need, as far as it is among them too."""
        among = networkx.Graph({name: self.needs[name] & set(names) for name in names})
        order = {name: number for number, name in enumerate(names)}
        chains = (
            tuple(sorted(c, key=order.__getitem__)) for c in networkx.connected_components(among)
        )
        return sorted(chains, key=lambda chain: order[chain[0]])


def kind_of(stage: str) -> str:
    """Return the part of a stage's name before the "@", without the file.

    Example:
        >>> kind_of("train@digits-made"), kind_of("reproductions/dvc.yaml:train@dna-made")
        ('train', 'train')
    """
    return stage.rpartition(":")[2].partition("@")[0]


def make_plan(targets: Sequence[str]) -> StagePlan:
    """Ask DVC what the targets need and what of it is stale.

    Raises:
        UserError: for a target that is not there, or files that DVC cannot read.
    """
    try:
        with Repo() as repo:
            graph = repo.index.graph
            ordered = needed_stages(repo, targets)
            with repo.lock:
                changed = {s.addressing for s in ordered if s.changed()}
            needs = {
                s.addressing: frozenset(before.addressing for before in graph.successors(s))
                for s in ordered
            }
    except DvcException as error:
        said = one_line(error)
        hint = "; `dvc config --local core.no_scm true` does without" if "git repo" in said else ""
        raise UserError(f"dvc: {said}{hint}") from error
    return StagePlan(stale_among([s.addressing for s in ordered], needs, changed), needs)


def needed_stages(repo: Repo, targets: Sequence[str]) -> list[Stage]:
    """Return the stages of some targets and all that they need, each after what it needs."""
    graph = repo.index.graph
    named = {stage.addressing: stage for stage in graph}
    wanted = [
        stage
        for target in targets  # DVC finds one by reading its files again, half a second each
        for stage in ([named[target]] if target in named else repo.stage.collect(target))
    ]
    needed = set(wanted).union(*(networkx.descendants(graph, stage) for stage in wanted))
    return [stage for stage in networkx.dfs_postorder_nodes(graph) if stage in needed]


def stale_among(
    ordered: Sequence[str], needs: Mapping[str, frozenset[str]], changed: set[str]
) -> tuple[str, ...]:
    """Return the stages that changed or need, by any way, one that did, in order.

    Example:
        >>> stale_among(["a", "b", "c"], {"a": set(), "b": {"a"}, "c": set()}, {"a"})
        ('a', 'b')
    """
    stale: dict[str, None] = {}
    for name in ordered:
        if name in changed or needs[name] & stale.keys():
            stale[name] = None
    return tuple(stale)
