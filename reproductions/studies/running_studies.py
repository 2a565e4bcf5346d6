"""Running studies: an entry of params.yaml and the command line to a folder."""

from __future__ import annotations

import dataclasses
import logging
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

from pipeline.artifacts import artifact
from pipeline.artifacts.writer import alone, writing
from pipeline.core import paths
from pipeline.core.errors import require, unknown_name
from pipeline.data.manifest import read_manifest, require_same
from pipeline.experiments import naming, schema
from pipeline.experiments.overlay import overlaid
from pipeline.experiments.params_file import read_entry
from reproductions.studies import (
    context_frames,
    num_masks,
    race,
    receptive_fields,
    sampling_time,
    simple_models,
    step_time,
    study_records,
    train_rows,
)
from reproductions.studies.kinds import KINDS
from reproductions.studies.study_context import StudyContext
from reproductions.studies.study_records import StudyOutcome, StudyRecord

log = logging.getLogger(__name__)


class StudyModule(Protocol):
    """What each kind has: its settings, a frozen dataclass, and what it does."""

    Settings: Any

    def run(self, place: StudyContext, settings: Any, folder: Path) -> StudyOutcome:
        """Write pictures into a folder, and return the table."""


MODULES: Mapping[str, StudyModule] = {
    "receptive_fields": receptive_fields,
    "sampling_time": sampling_time,
    "step_time": step_time,
    "num_masks": num_masks,
    "context_frames": context_frames,
    "train_rows": train_rows,
    "race": race,
    "simple_models": simple_models,
}
assert MODULES.keys() == KINDS.keys()


def run(study: str, overrides: Sequence[str] = ()) -> Path:
    """Run a study of params.yaml; write `studies/<study>/`.

    With overrides that folder has a name of its own, so that it never stands for the entry. What a
    study trains is left in models/, by names of its own, for a study that was interrupted.

    Arguments:
        study: a key of `studies` in params.yaml.
        overrides: `key=value` of its settings.

    Raises:
        UserError: for an unknown study, kind or setting, data that it is not for, or missing data.
    """
    entry = dict(read_entry("studies", study))
    where = f"studies.{study}"
    kind, dataset = (_text(entry.pop(key, None), f"{where}.{key}") for key in ("study", "dataset"))
    if kind not in KINDS:
        raise unknown_name(f"kind of {where}", kind, KINDS)
    module, given = MODULES[kind], overlaid(entry, overrides, where)
    settings = schema.build(module.Settings, given, where)
    manifest = read_manifest(paths.shards(dataset))
    name = naming.variant(study, overrides) if overrides else study
    command = shlex.join(["python", "-m", "reproductions.study", study, *overrides])
    output = dataclasses.replace(artifact.study(name, dataset), command=command)
    with alone(output) as begun, writing(output) as folder:
        outcome = module.run(StudyContext(name, manifest, begun.commit), settings, folder)
        require_same(paths.shards(dataset), manifest)
        record = StudyRecord(
            study=name,
            kind=kind,
            dataset=dataset,
            dataset_sha256=manifest.sha256,
            settings=dataclasses.asdict(settings),
            notes=outcome.notes,
            command=command,
            commit=begun.commit,
            device=outcome.device,
            seconds=round(begun.seconds, 2),
            shown=tuple(outcome.shown),
        )
        study_records.write(record, outcome, folder)
    log.info("wrote %s", output.folder)
    return output.folder


def _text(value: object, where: str) -> str:
    require(isinstance(value, str), where, "a name", value)
    return cast(str, value)
