"""How an ordering of dimensions becomes a sequence of tokens, each a patch or a part of one."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class TokenPlan(NamedTuple):
    """The T tokens of R orderings of D dimensions in P patches of n; each shows the one before it.

    Attributes:
        shown: (R, T, n) the dimension shown at each place of a patch, D for none.
        source: (R, T) the patch of what is shown, P for none.
        target: (R, T) the patch of what is asked for.
        token: (R, P, n) the token that is asked for each dimension of a patch.
        known: (R, P, n, n) whether place j of a patch precedes place i, at [..., i, j].
    """

    shown: Tensor
    source: Tensor
    target: Tensor
    token: Tensor
    known: Tensor

    def part(self, first: int, end: int) -> TokenPlan:
        """Return the plan with some of the tokens alone."""
        cut = {name: getattr(self, name)[:, first:end] for name in self._fields[:3]}
        return self._replace(**cut)


def plan_tokens(position: Tensor, members: Tensor, num_tokens: int | None = None) -> TokenPlan:
    """Plan a token for each run of dimensions of one patch: P, or more where patches are cut.

    Arguments:
        position: (R, D) int64, the step of each dimension.
        members: (P, n) int64, the dimensions of each patch.
        num_tokens: T, where it is known; else the device is asked for it.
    """
    (rows, size), (patches, places) = position.shape, members.shape
    own = members.flatten().argsort()  # where each dimension is among all patches' members
    order = position.argsort(1)
    asked = own[order] // places
    run = torch.cat([torch.zeros_like(asked[:, :1]), asked.diff(dim=1).ne(0).cumsum(1)], 1)
    if num_tokens is None:
        num_tokens = int(run[:, -1].max()) + 1 if rows else patches
    target = asked.new_zeros(rows, num_tokens).scatter(1, run, asked)
    drawn = asked.new_full((rows, num_tokens * places), size)
    drawn = drawn.scatter(1, run * places + own[order] % places, order)
    drawn = drawn.view(rows, num_tokens, places)
    steps = position[:, members]
    return TokenPlan(
        shown=torch.cat([torch.full_like(drawn[:, :1], size), drawn[:, :-1]], 1),
        source=torch.cat([torch.full_like(target[:, :1], patches), target[:, :-1]], 1),
        target=target,
        token=run.gather(1, position)[:, members],
        known=steps[..., None, :] < steps[..., None],
    )
