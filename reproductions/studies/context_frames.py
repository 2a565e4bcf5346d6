"""Clips after more and more given frames, by networks that learn what comes after so many."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from arcore.events import is_gray
from pipeline.core.errors import UserError, require
from pipeline.evaluation import scoring
from reproductions.studies.study_base import (
    Study,
    StudyContext,
    StudyOutcome,
    device_of,
    require_counts,
    require_networks,
    with_error,
)

BATCH = 50


@dataclass(frozen=True, kw_only=True)
class ContextFrames(Study):
    """Networks trained and scored after given frames of clips."""

    networks: dict[str, Any] = field(default_factory=dict)
    frames: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        require_networks(self.networks)
        require_counts("frames", self.frames)

    def run(self, context: StudyContext, folder: Path) -> StudyOutcome:
        """Train each network for each number of given frames, and score test clips by all."""
        event = context.manifest.event
        if len(event.shape) != 4:
            raise UserError(f"{context.manifest.dataset}: expected clips, got {event}")
        end, most = event.extents[0], max(self.frames)
        require(most < end, "frames", f"fewer than the {end} of a clip", most)
        configs = {
            (given, title): context.compose(title, network, [f"model.context_frames={given}"])
            for given in self.frames
            for title, network in self.networks.items()
        }
        test, rows, trainings = context.split("test"), [], []
        if is_gray(event):
            clips = np.arange(len(test))
            bounds = [
                with_error(scoring.entropy_scores(test, event, BATCH, clips, given) / (end - given))
                for given in self.frames
            ]
            rows.append(["", "entropy", *bounds])
        for (given, title), config in configs.items():
            trained = context.train(config)
            model = trained.load(context.device)
            nats = [
                scoring.scores(model, test, BATCH, None, after) / (end - after)
                for after in self.frames
            ]
            rows.append([str(given), title, *map(with_error, nats)])
            trainings.append(trained)
        header = ["trained after", "nats/frame of"]
        header += [f"frames {given + 1} to {end}" for given in self.frames]
        notes = (
            f"Nats a frame of {len(test):,} test clips, each frame given the true ones before it, "
            "by networks that learned the frames after so many."
        )
        return StudyOutcome(header, rows, notes, device_of(trainings))
