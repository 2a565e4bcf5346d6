"""Running uses: settings from params.yaml and the command line, files and numbers to folders."""

from __future__ import annotations

import dataclasses
import logging
import math
import shutil
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from pipeline.core import locks, paths, provenance
from pipeline.core.atomic import replacing
from pipeline.core.errors import UserError, require, require_seed, unknown_name
from pipeline.core.records import write_object
from pipeline.data.manifest import require_same
from pipeline.experiments import naming, params_file, schema
from pipeline.experiments.overlay import overlaid
from pipeline.uses import (
    classes,
    continuation,
    denoising,
    features,
    inpainting,
    interpolation,
    learned,
    memorisation,
    noise_levels,
    orderings,
    outliers,
    paired,
    records,
    speakers,
    structure,
    subject,
    super_resolution,
    video_prediction,
)
from pipeline.uses.listing import ALL, USES
from pipeline.uses.outcome import Outcome
from pipeline.uses.records import Origin, UseRecord
from pipeline.uses.subject import Subject

log = logging.getLogger(__name__)


class Module(Protocol):
    """What each use has: its settings, a frozen dataclass, and what it does."""

    Settings: Any

    def run(self, subject: Subject, settings: Any, folder: Path) -> Outcome:
        """Write files into a folder, and return what they show."""


MODULES: Mapping[str, Module] = {
    "inpainting": inpainting,
    "classes": classes,
    "features": features,
    "outliers": outliers,
    "super_resolution": super_resolution,
    "denoising": denoising,
    "memorisation": memorisation,
    "learned": learned,
    "structure": structure,
    "orderings": orderings,
    "paired": paired,
    "noise_levels": noise_levels,
    "interpolation": interpolation,
    "continuation": continuation,
    "speakers": speakers,
    "video_prediction": video_prediction,
}
assert MODULES.keys() == USES.keys()


def run(use: str, experiment: str, overrides: Sequence[str] = ()) -> Path:
    """Run one use of an experiment's model, or all that params.yaml lists for it.

    Writes `evaluation/<dataset>/uses/<experiment>/`, a folder a use. With overrides that folder
    has a name of its own, so that it never stands for the entry. Where all are run, their numbers
    go to `metrics/uses/<experiment>.json` too.

    Arguments:
        use: a key of `USES`, or `all`.
        experiment: whose model is in models/, or kept in results/.
        overrides: `key=value` of the use's settings.

    Raises:
        UserError: for an unknown use or setting or a missing model, before anything runs; for a
            model that a use is not for, after the others have run.
    """
    if use not in (*USES, ALL):
        raise unknown_name("use", use, [*USES, ALL])
    entry = _entry(experiment)
    if use == ALL:
        require(not overrides, "overrides", "none for all uses", list(overrides))
        require(bool(entry), f"uses.{experiment}", "an entry of params.yaml with uses", "none")
    listed = entry if use == ALL else {use: entry.get(use) or {}}
    settings = {}
    for name, own in listed.items():
        where = f"uses.{experiment}.uses.{name}"
        given = overlaid(own, overrides, where)
        settings[name] = schema.build(MODULES[name].Settings, given, where)
        _check(settings[name])
    loaded = subject.load(experiment)
    name = naming.variant(experiment, overrides) if overrides else experiment
    out, kept = records.folder_of(loaded.dataset, name), paths.work() / "scores" / name
    loaded = dataclasses.replace(loaded, kept=kept)
    with locks.held(locks.path_of(f"use-{name}"), f"using {name}"):
        made, failed = [], []
        for one, chosen in settings.items():
            try:
                with replacing(out / one) as partial:
                    made.append(_run_one(one, loaded, chosen, partial))
            except UserError as error:  # the others are kept, and those that follow run
                failed.append(f"{one}: {error}" if use == ALL else str(error))
        if failed:
            raise UserError("; ".join(dict.fromkeys(failed)))
        if use == ALL:
            _drop_others(out, settings)
            _write_metrics(experiment, made)
        _drop_kept(kept, settings)  # at the end: a rerun of all does each anew
    return out if use == ALL else out / use


def _drop_kept(kept: Path, uses: Collection[str]) -> None:
    """Remove what uses kept on the way, now that their results are in place; of others it stays."""
    for use in uses:
        for folder in kept.glob(f"{use}-*"):
            shutil.rmtree(folder, ignore_errors=True)
    if kept.is_dir() and not any(kept.iterdir()):
        kept.rmdir()


def _drop_others(out: Path, listed: Collection[str]) -> None:
    """Remove the results of uses that params.yaml lists no more."""
    for use in USES:
        if use not in listed:
            shutil.rmtree(out / use, ignore_errors=True)


def _check(settings: Any) -> None:
    """Check what most uses have: a seed, and a number of rows."""
    require_seed(getattr(settings, "seed", 0), "seed")
    rows = getattr(settings, "num_rows", None)
    require(rows is None or rows >= 1, "num_rows", "an integer >= 1", rows)


def _run_one(use: str, loaded: Subject, settings: Any, folder: Path) -> UseRecord:
    began, commit = time.perf_counter(), provenance.commit()
    outcome: Outcome = MODULES[use].run(loaded, settings, folder)
    require_same(paths.shards(loaded.dataset), loaded.manifest)
    for number in outcome.numbers:
        fits = math.isfinite(number.value) and math.isfinite(number.stderr or 0.0)
        got = f"{number.value} +- {number.stderr}"
        require(fits, f"{loaded.experiment}, {use}: {number.name}", "finite numbers", got)
    record = UseRecord(
        use=use,
        experiment=loaded.experiment,
        model=loaded.trained.name,
        dataset=loaded.dataset,
        weights_sha256=loaded.trained.weights_sha256,
        dataset_sha256=loaded.manifest.sha256,
        settings=_plain(settings),
        notes=outcome.notes,
        numbers=tuple(outcome.numbers),
        shown=tuple(outcome.shown),
        others=outcome.others,
        other_datasets=outcome.other_datasets,
    )
    origin = Origin(
        device=provenance.device_name(loaded.trained.model.device),
        seconds=round(time.perf_counter() - began + outcome.earlier_seconds, 2),
        commit=commit,
    )
    records.write(record, origin, folder)
    for number in record.numbers:
        error = "" if number.stderr is None else f" +- {number.stderr:.3g}"
        value = f"{number.sign} {number.value:.4g}{error} {number.unit}".strip()
        log.info("%s, %s: %s: %s", loaded.experiment, use, number.name, value)
    return record


def _plain(settings: Any) -> dict[str, object]:
    values = dataclasses.asdict(settings)
    return {key: list(v) if isinstance(v, tuple) else v for key, v in values.items()}


def _write_metrics(experiment: str, made: list[UseRecord]) -> None:
    path = paths.root() / "metrics" / "uses" / f"{experiment}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_object(path, records.summary(made))


def _entry(experiment: str) -> dict[str, dict[str, Any]]:
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
