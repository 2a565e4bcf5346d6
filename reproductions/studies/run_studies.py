"""Running studies: an entry of params.yaml and the command line to a folder."""

import csv
import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline import stage
from pipeline.artifacts import artifact
from pipeline.artifacts.artifact import STUDY, Artifact
from pipeline.artifacts.writer import Work
from pipeline.core import paths
from pipeline.core.errors import unknown_name
from pipeline.core.records import value_of, write_object
from pipeline.core.yaml_settings import overlaid, parse_overrides
from pipeline.data.manifest import read_manifest
from pipeline.experiments import naming, schema
from pipeline.experiments.params_file import read_entry
from pipeline.stage import Made
from reproductions.studies.any_question import AnyQuestion
from reproductions.studies.model_times import SamplingTime, StepTime
from reproductions.studies.receptive_fields import ReceptiveFields
from reproductions.studies.simple_models import SimpleModels
from reproductions.studies.study_base import Study, StudyContext
from reproductions.studies.trained_networks import ContextFrames, NumMasks, Race, TrainRows

STUDY_TYPES: Mapping[str, type[Study]] = {
    "receptive_fields": ReceptiveFields,
    "sampling_time": SamplingTime,
    "step_time": StepTime,
    "num_masks": NumMasks,
    "context_frames": ContextFrames,
    "train_rows": TrainRows,
    "race": Race,
    "simple_models": SimpleModels,
    "any_question": AnyQuestion,
}


def run(name: str, overrides: Sequence[str] = ()) -> Path:
    """Run a study of params.yaml; write table.csv, study.json and plots into `studies/<study>/`.

    With overrides that folder has a name of its own, so that it never stands for the entry. What a
    study trains is left in models/, by names of its own.
    """
    entry, where = dict(read_entry("studies", name)), f"studies.{name}"
    kind, dataset = (value_of(entry, key, str, where) for key in ("study", "dataset"))
    if kind not in STUDY_TYPES:
        raise unknown_name(f"kind of {where}", kind, STUDY_TYPES)
    settings = {key: value for key, value in entry.items() if key not in ("study", "dataset")}
    study = schema.build(STUDY_TYPES[kind], overlaid(settings, parse_overrides(overrides)), where)
    manifest = read_manifest(paths.shards(dataset))
    title = naming.variant(name, overrides) if overrides else name
    output = Artifact(
        kind=STUDY,
        name=title,
        folder=paths.root() / "studies" / title,
        command=shlex.join(["python", "-m", "reproductions.study", name, *overrides]),
        inputs=(artifact.shards(dataset),),
    )

    def make(work: Work) -> Made[Path]:
        outcome = study.run(StudyContext(title, manifest), work.folder)
        with open(work.folder / STUDY.main, "w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows([outcome.header, *outcome.rows])
        record = {
            "study": title,
            "kind": kind,
            "dataset": dataset,
            "dataset_sha256": manifest.sha256,
            "settings": dataclasses.asdict(study),
            "notes": outcome.notes,
            "command": output.command,
            "commit": work.commit,
            "device": outcome.device,
            "seconds": round(work.seconds, 2),
            "shown": [one.to_dict() for one in outcome.shown],
        }
        write_object(work.folder / STUDY.origin, record)
        return Made(output.folder, [f"wrote {output.folder}"])

    return stage.run(output, make)
