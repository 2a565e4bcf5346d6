"""Evaluating a trained model under its dataset's protocol."""

import dataclasses
import hashlib
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

import arcore
from arcore.events import Event, after_frames, is_levels
from pipeline import stage
from pipeline.artifacts import artifact
from pipeline.artifacts.writer import Work
from pipeline.cluster.devices import local_device
from pipeline.cluster.shared_storage import shared_storage
from pipeline.core import paths, stage_code
from pipeline.core.errors import UserError, explained, require
from pipeline.data import sound_batches
from pipeline.data.manifest import Manifest, read_manifest
from pipeline.data.shard_reader import ShardReader
from pipeline.datasets import catalog
from pipeline.evaluation import (
    audio_figures,
    identity,
    image_figures,
    measuring,
    scoring,
    spreading,
    text_samples,
)
from pipeline.evaluation.result_records import FurtherTest, Result
from pipeline.evaluation.scoring import ChosenRows, mean_and_error
from pipeline.experiments.schema import ExperimentConfig
from pipeline.stage import Made
from pipeline.training import saved_models
from pipeline.training.resolved import check_frames


def evaluate(config: ExperimentConfig) -> Path:
    """Evaluate models/<experiment>/ on the test split; write evaluation/<dataset>/<experiment>/.

    Test rows are scored once, all of them or the random subset that the config asks for, by
    `cluster.num_workers` workers if there are any; so are the validation split, for choosing
    between models, and test splits beyond `test`. Metrics and pictures go to the training's MLflow
    run too.
    """
    output = artifact.evaluation(config.name, config.dataset["name"], config.result_name)

    def make(work: Work) -> Made[Path]:
        trained = saved_models.load(config.name)
        described = {  # before hours in which they may be edited
            "config_sha256": identity.config_sha256(config),
            "entry_sha256": identity.entry_sha256(config.name),
            "code_sha256": stage_code.code_sha256("evaluate", trained.name),
        }
        record = trained.record if config.evaluated_as is None else None  # else it is of another
        result, event = _evaluate(config, trained, described, work.folder)
        return Made(
            output.folder,
            said=[_said(config.name, result, event)],
            metrics=result.summary(event),
            projection=result.projection(None if record is None else record.run_id),
        )

    return stage.run(output, make, storage=shared_storage(config.cluster))


def _said(name: str, result: Result, event: Event) -> str:
    of_nats, of_bits = (result.at_most_in(unit, event) for unit in ("nats", "bits_per_dim"))
    score = result.score
    return (
        f"{name}: test {of_nats}{score.nats:.3f} +- {score.nats_stderr:.3f} nats, "
        f"{of_bits}{score.bits_per_dim:.4f} bits/dim ({result.num_rows} rows)"
    )


@dataclasses.dataclass(frozen=True)
class Task:
    """A model on its device, or an ensemble of it, and the rows of each split; `test` is first."""

    config: ExperimentConfig
    trained: saved_models.TrainedModel
    manifest: Manifest
    model: arcore.AutoregressiveModel
    num_members: int
    chosen: Mapping[str, ChosenRows]

    @property
    def event(self) -> Event:
        """What is scored: the event without frames of context."""
        return after_frames(self.manifest.event, self.manifest.context_frames)


def _evaluate(
    config: ExperimentConfig,
    trained: saved_models.TrainedModel,
    described: dict[str, str | None],
    out: Path,
) -> tuple[Result, Event]:
    """Score, draw, and write into a folder; return the result, and the event that was scored."""
    task = _task(config, trained)
    rows, plan = task.chosen["test"], config.evaluation
    with spreading.scorer(config, task.model, task.num_members, trained.weights_sha256) as score:
        began = time.perf_counter()
        by_member = {"test": score("test", rows)}
        seconds = time.perf_counter() - began
        by_member |= {name: score(name, task.chosen[name]) for name in list(task.chosen)[1:]}
    nats = {name: scoring.mixture(scored) for name, scored in by_member.items()}
    _require_finite(config.name, nats)
    some = np.random.default_rng(plan.seed).permutation(len(rows.split))[: plan.num_samples]
    shown = dataclasses.replace(rows, numbers=some)
    drawn, sample_seconds = None, None
    if plan.num_samples:
        drawn, sample_seconds = measuring.drawn(task.model, plan, shown)
    result = dataclasses.replace(
        _measured(task, nats, by_member["test"]),
        evaluate_seconds=round(seconds, 2),
        sample_seconds=None if sample_seconds is None else round(sample_seconds, 3),
        config_sha256=described["config_sha256"],
        entry_sha256=described["entry_sha256"],
        code_sha256=described["code_sha256"],
    )
    result.check(config.name, task.event)
    result.write(out)
    for name, scored in nats.items():
        file_name = "scores.csv" if name == "test" else f"scores_{name}.csv"
        table = pd.DataFrame({"row": task.chosen[name].numbers, "nats": scored.numpy()})
        table.to_csv(out / file_name, index=False, float_format="%.6f", lineterminator="\n")
    if drawn is not None:
        _show(task.model, shown, drawn, task.manifest, out)
    return result, task.event


def _task(config: ExperimentConfig, trained: saved_models.TrainedModel) -> Task:
    """Read the manifest, check that the model fits, and choose rows."""
    dataset, plan = config.dataset["name"], config.evaluation
    folder = paths.shards(dataset)
    manifest = read_manifest(folder)
    saved_models.check_data(trained, manifest, config.name)
    check_frames(config, trained.model, manifest)
    num_members = plan.num_members or trained.model.num_members
    elsewhere = config.cluster.num_workers > 0 and not torch.cuda.is_available()
    device = torch.device("cpu") if elsewhere else local_device(config.cluster)
    model = trained.model
    with explained(f"{config.name}: evaluation.num_members {num_members}:", ValueError):
        model = model if num_members == 1 else model.ensemble(num_members)
    saved_models.check_entry(config, trained, manifest)
    context = manifest.context_frames
    if plan.coded:
        measuring.check_coding(model, context, config.name)
    names = ("test", *manifest.extra_test_splits, "valid")
    chosen = {name: ChosenRows.under(plan, ShardReader(folder, name), context) for name in names}
    for name in names[:-1]:
        count = len(chosen[name])
        require(count > 1, f"{dataset}: {name} rows", "two or more, for an error", count)
    return Task(config, trained, manifest, model.to(device).eval(), num_members, chosen)


def _measured(task: Task, nats: Mapping[str, Tensor], by_member: Tensor) -> Result:
    """Return all that follows from the scores; the seconds and the identity are not among it."""
    model, manifest, trained = task.model, task.manifest, task.trained
    record, plan, event = trained.record, task.config.evaluation, task.manifest.event
    rows, valid, source = task.chosen["test"], task.chosen["valid"], None
    own = "kind" in task.config.dataset  # whose source nobody knows, whose files would be read
    if manifest.sound is not None and not own:
        source = catalog.get_dataset(task.config.dataset).source_nats(rows.split.whole())
    further = {name: task.chosen[name] for name in manifest.extra_test_splits}
    return Result(
        experiment=task.config.result_name,
        weights_sha256=trained.weights_sha256,
        dataset_sha256=manifest.sha256,
        num_valid_rows=len(valid),
        valid_rows_sha256=hashlib.sha256(valid.numbers.astype("<i8").tobytes()).hexdigest(),
        dataset=task.config.dataset["name"],
        model=trained.name,
        num_members=task.num_members,
        unit=manifest.unit,
        score=rows.score(nats["test"], event),
        mean_size=rows.mean_size(event),
        context_frames=manifest.context_frames,
        excess=measuring.excess(rows, nats["test"], event, source),
        receptive_field=model.receptive_field,
        num_evaluations=model.num_evaluations,
        member=measuring.member(by_member),
        importance=measuring.importance(model, rows, plan, nats["test"]),
        bound=measuring.bound(model, rows),
        coded=measuring.coded(model, rows, task.config.name) if plan.coded else None,
        further_tests=tuple(
            FurtherTest(
                split=name,
                num_rows=len(chosen),
                num_split_rows=len(chosen.split),
                score=chosen.score(nats[name], event),
                mean_size=chosen.mean_size(event),
            )
            for name, chosen in further.items()
        ),
        num_rows=len(rows),
        num_split_rows=len(rows.split),
        exact=model.exact,
        valid_nats=mean_and_error(nats["valid"])[0],
        num_parameters=sum(p.numel() for p in trained.model.parameters()),
        train_seconds=None if record is None else record.train_seconds,
        device=None if record is None else record.device,
        published=plan.published,
        published_member=plan.published_member,
        published_importance=plan.published_importance,
    )


def _require_finite(name: str, nats: Mapping[str, Tensor]) -> None:
    """Refuse scores that are no numbers."""
    for split, values in nats.items():
        failed = int((~values.isfinite()).sum())
        if failed:
            raise UserError(
                f"{name}: expected finite nats for each {split} row, got NaN or infinity for "
                f"{failed} of {len(values)}; the weights may be damaged: train it again"
            )


def _show(
    model: arcore.AutoregressiveModel,
    shown: ChosenRows,
    drawn: np.ndarray,
    manifest: Manifest,
    folder: Path,
) -> None:
    """Write samples beside real rows: a picture, and what can be played or read into `media`."""
    real = shown.events(model.event)
    media, picture = folder / "media", folder / "samples.png"
    media.mkdir()
    if manifest.sound is not None and manifest.sound.is_text:
        lengths = sound_batches.lengths(shown.split[shown.numbers])
        text_samples.write(media, {"samples": drawn, "real": real}, lengths)
    elif manifest.sound is not None:
        labels = shown.split[shown.numbers].labels
        assert labels is not None and is_levels(model.event)  # as every split of sounds
        audio_figures.write_pairs(media, drawn, real, labels, model.event, manifest.sound).savefig(
            picture
        )
    elif image_figures.are_clips(model.event):
        versions, context = [real, drawn], shown.context_frames
        if model.generates:
            few = shown.part(np.arange(min(len(shown), image_figures.MAX_CLIPS))).read(model)
            versions.insert(1, image_figures.expected(model, few.x, few.condition, context))
        image_figures.save_clips(picture, versions, model.event, context)
    else:
        events = {"samples": drawn, "real": real}
        image_figures.sample_figure(events, model.event, manifest.table).savefig(picture)
        if image_figures.is_picture(model.event):
            for title, images in events.items():
                image_figures.write_strip(media / f"{title}.png", images, model.event, real)
