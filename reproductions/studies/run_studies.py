"""Running studies: an entry of params.yaml and the command line to a folder."""

from __future__ import annotations

import dataclasses
import logging
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.artifacts import artifact
from pipeline.artifacts.artifact import Artifact
from pipeline.artifacts.writer import alone, writing
from pipeline.core import paths
from pipeline.core.errors import require, unknown_name
from pipeline.core.yaml_settings import overlaid, parse_overrides
from pipeline.data.manifest import read_manifest
from pipeline.experiments import naming, schema
from pipeline.experiments.params_file import read_entry
from reproductions.studies import study_records
from reproductions.studies.context_frames import ContextFrames
from reproductions.studies.kinds import KINDS
from reproductions.studies.model_times import SamplingTime, StepTime
from reproductions.studies.num_masks import NumMasks
from reproductions.studies.race import Race
from reproductions.studies.receptive_fields import ReceptiveFields
from reproductions.studies.simple_models import SimpleModels
from reproductions.studies.study_base import Study
from reproductions.studies.study_context import StudyContext
from reproductions.studies.study_records import StudyRecord
from reproductions.studies.train_rows import TrainRows

log = logging.getLogger(__name__)
KEYS = ("study", "dataset")

STUDY_TYPES: Mapping[str, type[Study]] = {
    "receptive_fields": ReceptiveFields,
    "sampling_time": SamplingTime,
    "step_time": StepTime,
    "num_masks": NumMasks,
    "context_frames": ContextFrames,
    "train_rows": TrainRows,
    "race": Race,
    "simple_models": SimpleModels,
}
assert STUDY_TYPES.keys() == KINDS.keys()


def run(name: str, overrides: Sequence[str] = ()) -> Path:
    """Run a study of params.yaml; write `studies/<study>/`.

    With overrides that folder has a name of its own, so that it never stands for the entry. What a
    study trains is left in models/, by names of its own, for a study that was interrupted.

    Arguments:
        name: a key of `studies` in params.yaml.
        overrides: `key=value` of its settings.

    Raises:
        UserError: for an unknown study, kind or setting, data that it is not for, or missing data.
    """
    entry, where = dict(read_entry("studies", name)), f"studies.{name}"
    kind, dataset = (str(_name(entry.pop(key, None), f"{where}.{key}")) for key in KEYS)
    if kind not in KINDS:
        raise unknown_name(f"kind of {where}", kind, KINDS)
    study = schema.build(STUDY_TYPES[kind], overlaid(entry, parse_overrides(overrides)), where)
    manifest = read_manifest(paths.shards(dataset))
    title = naming.variant(name, overrides) if overrides else name
    output = Artifact(
        kind=artifact.STUDY,
        name=title,
        folder=paths.study(title),
        command=shlex.join(["python", "-m", "reproductions.study", name, *overrides]),
        inputs=(artifact.shards(dataset),),
    )
    with alone(output) as begun, writing(output) as folder:
        outcome = study.run(StudyContext(title, manifest, begun.commit), folder)
        record = StudyRecord(
            study=title,
            kind=kind,
            dataset=dataset,
            dataset_sha256=manifest.sha256,
            settings=dataclasses.asdict(study),
            notes=outcome.notes,
            command=output.command,
            commit=begun.commit,
            device=outcome.device,
            seconds=round(begun.seconds, 2),
            shown=tuple(outcome.shown),
        )
        study_records.write(record, outcome, folder)
    log.info("wrote %s", output.folder)
    return output.folder


def _name(value: object, where: str) -> object:
    require(isinstance(value, str), where, "a name", value)
    return value
