"""Masks and orderings of one network: what one of them scores, and what their mixture does."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.core.errors import require
from pipeline.evaluation import scoring
from reproductions.studies.study_base import (
    Study,
    StudyContext,
    StudyOutcome,
    device_of,
    require_counts,
    with_error,
)

BATCH = 500


@dataclass(frozen=True, kw_only=True)
class NumMasks(Study):
    """One network with more and more masks or orderings."""

    networks: dict[str, Any] = field(default_factory=dict)
    masks: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        require(len(self.networks) == 1, "networks", "one", self.networks)
        require_counts("masks", self.masks)

    def run(self, context: StudyContext, folder: Path) -> StudyOutcome:
        """Train a network for each number of masks, and score test rows by its members."""
        ((title, network),) = self.networks.items()
        configs = {}
        for own, count in itertools.product((False, True), self.masks):
            if own and count == 1:
                continue  # one mask has one ordering
            overrides = [f"model.order_agnostic={str(own).lower()}"]
            overrides += [f"{k}={count}" for k in ("model.num_masks", "trainer.validate_members")]
            configs[own, count] = context.compose(title, network, overrides)
        test, rows, trainings = context.split("test"), [], []
        for (own, count), config in configs.items():
            trained = context.train(config)
            ensemble = trained.load(context.device).ensemble(count)
            each = scoring.member_scores(ensemble, test, BATCH)
            orderings = "one each" if own else "the same"
            nats = (with_error(each.mean(1)), with_error(scoring.mixture(each)))
            rows.append([str(count), orderings, *nats])
            trainings.append(trained)
        notes = (
            f"Nats of {len(test):,} test rows; masks are drawn before training, and one network "
            "has them all. Orderings that are the same: masks differ in connectivity alone. Of one "
            "of them: the mean over the members."
        )
        header = ["masks", "orderings", "one of them", "their mixture"]
        return StudyOutcome(header, rows, notes, device_of(trainings))
