"""Running uses: settings from params.yaml and the command line, files and numbers to folders."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline import stage
from pipeline.artifacts import artifact
from pipeline.artifacts.artifact import Artifact
from pipeline.artifacts.writer import Work
from pipeline.core.errors import UserError, require, unknown_name
from pipeline.core.records import write_object
from pipeline.core.yaml_settings import overlaid, parse_overrides
from pipeline.experiments import naming, params_file, schema
from pipeline.stage import Made
from pipeline.uses import use_context, use_records
from pipeline.uses.class_uses import ClassPosteriors, FeatureAccuracy
from pipeline.uses.comparisons import OrderingEnsembles, PairedDifferences
from pipeline.uses.harmonisation import Harmonisation
from pipeline.uses.inpainting import Inpainting
from pipeline.uses.latent_uses import ImageInterpolation, NoiseLevels
from pipeline.uses.learned_filters import LearnedFilters
from pipeline.uses.outliers import Outliers
from pipeline.uses.restoration import Denoising, SuperResolution
from pipeline.uses.sample_checks import Memorisation, PixelStructure
from pipeline.uses.sound_uses import Continuation, SpeakerSwap
from pipeline.uses.use_base import Use
from pipeline.uses.use_context import UseContext
from pipeline.uses.use_records import ALL, USES, UseRecord
from pipeline.uses.video_prediction import VideoPrediction

USE_TYPES: Mapping[str, type[Use]] = {
    "inpainting": Inpainting,
    "classes": ClassPosteriors,
    "features": FeatureAccuracy,
    "outliers": Outliers,
    "super_resolution": SuperResolution,
    "denoising": Denoising,
    "memorisation": Memorisation,
    "learned": LearnedFilters,
    "structure": PixelStructure,
    "orderings": OrderingEnsembles,
    "paired": PairedDifferences,
    "noise_levels": NoiseLevels,
    "interpolation": ImageInterpolation,
    "continuation": Continuation,
    "speakers": SpeakerSwap,
    "harmonisation": Harmonisation,
    "video_prediction": VideoPrediction,
}
assert USE_TYPES.keys() == USES.keys()


def run(name: str, experiment: str, overrides: Sequence[str] = ()) -> Path:
    """Run one use of an experiment's model, or `all` that params.yaml lists for it.

    Writes `evaluation/<dataset>/uses/<experiment>/`, with one folder per use. With overrides that
    folder has a name of its own, and reports do not read it. The numbers of `all` are also written
    to `metrics/uses/<experiment>.json`.
    """
    uses = _uses(name, experiment, overrides)
    context = use_context.load(experiment)
    folder_name = naming.variant(experiment, overrides) if overrides else experiment
    whole = _artifact(context, folder_name, f"{name} {experiment}")

    def make(work: Work) -> Made[Path]:
        made, failed = [], []
        for one, use in uses.items():
            try:
                made.append(_run_one(one, use, context, folder_name))
            except UserError as error:  # the others are kept, and those that follow run
                failed.append(f"{one}: {error}" if name == ALL else str(error))
        if failed:
            raise UserError("; ".join(dict.fromkeys(failed)))
        if name != ALL:
            return Made(work.folder / name)
        for one in USES.keys() - uses:  # that params.yaml no longer lists
            shutil.rmtree(work.folder / one, ignore_errors=True)
        numbers = {record.use: {one.name: one.value for one in record.numbers} for record in made}
        return Made(work.folder, metrics={f"uses/{experiment}": numbers})

    return stage.run(whole, make)


def _artifact(context: UseContext, folder_name: str, arguments: str, use: str = "") -> Artifact:
    """Return the output of a use, or of all of an experiment."""
    return Artifact(
        kind=artifact.USE if use else artifact.USES,
        name=f"{folder_name}-{use}" if use else folder_name,
        folder=use_records.folder_of(context.dataset, folder_name) / use,
        command=f"python -m stages.use {arguments}",
        inputs=(
            artifact.usable_model(context.experiment, context.dataset),
            artifact.shards(context.dataset),
        ),
    )


def _uses(name: str, experiment: str, overrides: Sequence[str]) -> dict[str, Use]:
    """Return what is to run by name, with its settings."""
    if name not in (*USES, ALL):
        raise unknown_name("use", name, [*USES, ALL])
    entry = read_entry(experiment)
    if name == ALL:
        require(not overrides, "overrides", "none for all uses", list(overrides))
        require(bool(entry), f"uses.{experiment}", "an entry of params.yaml with uses", "none")
    uses = {}
    for one in entry if name == ALL else [name]:
        where = f"uses.{experiment}.uses.{one}"
        given = overlaid(entry.get(one) or {}, parse_overrides(overrides))
        uses[one] = schema.build(USE_TYPES[one], given, where)
    return uses


def read_entry(experiment: str) -> dict[str, dict[str, object]]:
    """Return the settings of each use that params.yaml lists for an experiment."""
    known = params_file.read_params().get("uses") or {}
    entry = known.get(experiment) or {}
    require(isinstance(entry, dict), f"uses.{experiment}", "a mapping", entry)
    listed = entry.get("uses") or {}
    require(isinstance(listed, dict), f"uses.{experiment}.uses", "a mapping", listed)
    for name, settings in listed.items():
        if name not in USES:
            raise unknown_name(f"use of {experiment}", name, USES)
        require(isinstance(settings, dict), f"uses.{experiment}.uses.{name}", "a mapping", settings)
    return listed


def _run_one(name: str, use: Use, context: UseContext, folder_name: str) -> UseRecord:
    output = _artifact(context, folder_name, f"{name} {context.experiment}", name)

    def make(work: Work) -> Made[UseRecord]:
        work.device = context.model.device
        outcome = use.run(context, work.folder)
        record = UseRecord(
            use=name,
            experiment=context.experiment,
            model=context.trained.name,
            dataset=context.dataset,
            weights_sha256=context.trained.weights_sha256,
            dataset_sha256=context.manifest.sha256,
            settings=use.settings(),
            **vars(outcome),
        )
        write_object(work.folder / artifact.USE.main, record.to_dict())
        said = [f"{context.experiment}, {name}: {number}" for number in record.numbers]
        return Made(record, said)

    return stage.run(output, make)
