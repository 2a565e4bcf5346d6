"""The one runner: what is done for every stage, around what it alone does.

    def count(work: Work) -> Made[int]:
        (work.folder / "table.csv").write_text("a,b")
        return Made(1, said=["wrote a table"])

    run(output, count)

The runner holds the lock, gives an empty folder, and ends the MLflow run of what fails. What ends
well it seals, stamps with its origin, puts in place and publishes; then it writes the metrics,
projects the numbers to MLflow, and prints the closing lines.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from pipeline.artifacts import writer
from pipeline.artifacts.artifact import Artifact
from pipeline.artifacts.writer import Work
from pipeline.core import paths
from pipeline.core.records import write_object
from pipeline.tracking.tracked_run import Curves, TrackedRun, end_by_error

log = logging.getLogger(__name__)
R = TypeVar("R")


@dataclass(frozen=True, kw_only=True)
class Projection:
    """What an MLflow run shows of an output: `TrackedRun.update` says of what kinds.

    Attributes:
        run_id: of the run of another stage, where this work has none of its own.
        files: below the output's folder.
    """

    run_id: str | None = None
    curves: Curves | None = None
    values: Mapping[str, float] | None = None
    tags: Mapping[str, str] | None = None
    files: Sequence[str] = ()


@dataclass(frozen=True)
class Made(Generic[R]):
    """What a stage says of what it made.

    Attributes:
        record: returned to the caller.
        said: closing lines for the log.
        metrics: the content of files that DVC compares, by their paths below metrics/.
        projection: of the output into MLflow.
        finish: called once the output is in its place, its lock still held.
    """

    record: R
    said: Sequence[str] = ()
    metrics: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    projection: Projection | None = None
    finish: Callable[[], object] | None = None


def run(
    output: Artifact,
    make: Callable[[Work], Made[R]],
    *,
    work: tuple[str, str] | None = None,
    storage: str | None = None,
) -> R:
    """Make an output whole or not at all; return its record.

    Arguments:
        make: writes into `Work.folder`. Work that is a run of MLflow sets `Work.run_id`, which ends
            as the work does.
        work: the storage and the folder in it of unfinished work, which is locked too.
        storage: shared by all hosts, to which the output is copied.

    Raises:
        UserError: for another process that makes the same, an input that changed meanwhile, or what
            `make` refuses.
    """
    with writer.alone(output, work):
        under_way = None
        try:
            with writer.writing(output, storage) as under_way:
                made = make(under_way)
            _tell(output, under_way, made)
        except BaseException as error:
            if under_way is not None and under_way.run_id is not None:
                end_by_error(under_way.run_id, error)
            raise
        for line in made.said:
            log.info("%s", line)
        if made.finish is not None:
            made.finish()
    return made.record


def write_metrics(metrics: Mapping[str, Mapping[str, object]]) -> None:
    """Write files that DVC compares, by their paths below metrics/."""
    for name, content in metrics.items():
        write_object(paths.root() / "metrics" / f"{name}.json", content)


def _tell(output: Artifact, work: Work, made: Made[R]) -> None:
    write_metrics(made.metrics)
    shown = made.projection
    if shown is not None:
        TrackedRun(work.run_id or shown.run_id).update(
            curves=shown.curves,
            values=shown.values,
            tags=shown.tags,
            files=[output.folder / file for file in shown.files],
            status="FINISHED" if work.run_id else None,
        )
