"""From DVC's outputs to MLflow's registry: idempotent, by content hash.

DVC's files decide; the registry mirrors them, and a lost database is rebuilt from them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from arcore.events import is_real
from pipeline import stage
from pipeline.artifacts import artifact
from pipeline.artifacts.writer import Work
from pipeline.core import paths
from pipeline.core.errors import UserError, one_line
from pipeline.data.manifest import MANIFEST, Manifest, read_manifest
from pipeline.data.scalings import read_scalings
from pipeline.datasets.scaling import Scaling
from pipeline.evaluation import reading
from pipeline.registry import exporting, training_runs
from pipeline.registry.candidates import CHAMPION, Candidate, alias_of, candidates
from pipeline.registry.training_runs import HASH
from pipeline.stage import Made
from pipeline.tracking import mlflow_store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """An experiment in the registry: its registered model, version, alias, run and numbers."""

    model: str
    version: int
    sha256: str
    alias: str
    run_id: str | None
    valid_nats: float | None
    test_nats: float


@dataclass(frozen=True, kw_only=True)
class Champion:
    """The experiment and the version that carry the alias `champion`."""

    experiment: str
    version: int


@dataclass(frozen=True, kw_only=True)
class Registration:
    """What the registry holds of a dataset: `registry/<dataset>/registration.json`."""

    dataset: str
    champions: Mapping[str, Champion | None]
    experiments: Mapping[str, Entry]


def register_all(datasets: Sequence[str] = ()) -> None:
    """Register datasets' models; without names, of all that have results of entries.

    One that fails stops no other.
    """
    from mlflow.exceptions import MlflowException

    folders = sorted((paths.root() / "evaluation").glob("[!.]*"))
    names = list(datasets) or [one.name for one in folders if reading.evaluations(one.name)]
    if not names:
        raise UserError("evaluation: nothing evaluated yet; run evaluate first")
    failed = []
    for dataset in names:
        try:
            write(dataset)
        except UserError as error:
            failed.append(str(error))
        except (MlflowException, OSError) as error:
            failed.append(f"{dataset}: {one_line(error)}")
    if failed:
        raise UserError("; ".join(dict.fromkeys(failed)))


def write(dataset: str) -> Path:
    """Register one dataset's models and write `registry/<dataset>/registration.json`."""
    output = artifact.registration(dataset)
    path = output.folder / output.kind.main

    def make(work: Work) -> Made[Path]:
        made_of = reading.hashes(folder / "metrics.json" for folder in reading.evaluations(dataset))
        registered = register_dataset(dataset)
        content = json.dumps(dataclasses.asdict(registered), indent=2, sort_keys=True)
        (work.folder / path.name).write_text(content + "\n", encoding="utf-8")
        (work.folder / reading.MADE_OF).write_text(made_of, encoding="utf-8")
        found = registered.champions.items()
        said = [f"models:/{name}@champion is {one.experiment}" for name, one in found if one]
        return Made(path, said)

    return stage.run(output, make)


def register_dataset(dataset: str) -> Registration:
    """Register every evaluated experiment of a dataset; return what the registry now holds.

    A version whose content hash and files are there is reused, so a second call makes nothing. The
    runs of trainings get what the store did not take at the time. Each experiment's version carries
    an alias named after it. Models that are told a row's class (or another condition) are versions
    of a registered model of their own. `champion` of each goes to the lowest VALIDATION nats on the
    same rows, the most that any was validated on: choosing by the test split would make its numbers
    optimistic. What was validated on others is not compared, with a warning, nor is a mixture some
    of whose members are told nothing. A model that is only bounded competes with its bound; its
    version's tag `exact` is False.
    """
    found = candidates(dataset)
    store = mlflow_store.require_store()
    groups: dict[str, list[Candidate]] = {}
    for candidate in found:
        groups.setdefault(candidate.registered_name, []).append(candidate)
    entries: dict[str, Entry] = {}
    for name, group in groups.items():
        entries |= _register_group(store, name, dataset, group)
    champions = {
        name: _choose_champion(store, name, group, entries) for name, group in groups.items()
    }
    return Registration(dataset=dataset, champions=champions, experiments=entries)


def _register_group(
    store: MlflowClient, name: str, dataset: str, group: Sequence[Candidate]
) -> dict[str, Entry]:
    """Make the versions of one registered model that are missing, and point aliases."""
    _ensure_model(store, name, dataset)
    shards = paths.shards(dataset)
    manifest = read_manifest(shards) if (shards / MANIFEST).is_file() else None
    scalings = read_scalings(shards) if manifest is not None else None
    vectors = any(name.startswith("condition_") for name in group[0].given)
    if scalings is None and (vectors or is_real(group[0].evaluated.event)):
        raise UserError(f"{shards}: missing; it says how the values of {dataset} were standardised")
    versions = store.search_model_versions(f"name = '{name}'", max_results=mlflow_store.MOST_FOUND)
    existing = {one.tags.get(HASH): one for one in versions if _is_whole(store, one)}
    entries: dict[str, Entry] = {}
    for candidate in group:
        run_id = training_runs.update(store, candidate)
        version = existing.get(_identity(candidate, scalings, manifest))
        if version is None:
            run_id = run_id or training_runs.rebuild(store, dataset, candidate)
            version = _register(store, name, run_id, candidate, scalings, manifest)
        alias = alias_of(candidate.name)
        _point(store, name, alias, int(version.version))
        entries[candidate.name] = Entry(
            model=name,
            version=int(version.version),
            sha256=candidate.sha256,
            alias=alias,
            run_id=version.run_id,
            valid_nats=candidate.result.valid_nats,
            test_nats=candidate.result.score.nats,
        )
    return entries


def _choose_champion(
    store: MlflowClient, name: str, found: list[Candidate], entries: Mapping[str, Entry]
) -> Champion | None:
    validated = [one for one in found if one.competes and one.result.valid_nats is not None]
    if not validated:
        log.warning("warning: no valid_nats in any metrics.json; %s has no champion", name)
        return None
    rows = _most_rows(validated)
    ranked = []
    for candidate in validated:
        if candidate.result.valid_rows_sha256 == rows:
            result = candidate.result
            size = result.num_parameters or 0  # a mixture may have all its weight on a member
            ranked.append((result.valid_nats or 0.0, size, candidate.name))
        else:
            log.warning(
                "warning: %s was validated on other rows (%s) than those that are compared (%s) "
                "for the champion of %s; evaluate all with the same evaluation.num_test_rows and "
                "evaluation.seed",
                candidate.name, candidate.result.num_valid_rows,
                max(one.result.num_valid_rows or 0 for one in validated), name,
            )  # fmt: skip
    *_, experiment = min(ranked)
    version = entries[experiment].version
    _point(store, name, CHAMPION, version)
    return Champion(experiment=experiment, version=version)


def _most_rows(found: Sequence[Candidate]) -> str | None:
    """Return the hash of the validation rows on which models are compared: of the most rows."""

    def coverage(candidate: Candidate) -> tuple[int, int]:
        rows = candidate.result.valid_rows_sha256
        same = sum(other.result.valid_rows_sha256 == rows for other in found)
        return candidate.result.num_valid_rows or 0, same

    return max(found, key=coverage).result.valid_rows_sha256


def _identity(
    candidate: Candidate, scalings: Mapping[str, Scaling] | None, manifest: Manifest | None
) -> str:
    """Return the tag of a version: its content and all else that is exported of it."""
    exported: list[object] = [exporting.FORMAT, manifest.columns if manifest else ()]
    exported += [[role, one.to_dict()] for role, one in (scalings or {}).items()]
    described = json.dumps(exported).encode()
    if candidate.validation.is_file():
        described += candidate.validation.read_bytes()
    return f"{candidate.sha256}-{hashlib.sha256(described).hexdigest()[:12]}"


def _register(
    store: MlflowClient,
    name: str,
    run_id: str,
    candidate: Candidate,
    scalings: Mapping[str, Scaling] | None,
    manifest: Manifest | None,
) -> ModelVersion:
    if manifest is not None:
        training_runs.describe(store, run_id, candidate, manifest)
    table = None if manifest is None else manifest.table
    uri = exporting.log_exported_model(store, run_id, candidate, scalings, table)
    tags: dict[str, object] = {
        HASH: _identity(candidate, scalings, manifest),
        "experiment": candidate.name,
        "commit": candidate.commit,
        "exact": candidate.result.exact,
        "standardized": " and ".join(scalings or ()) or None,
    }
    known = {key: str(value) for key, value in tags.items() if value is not None}
    version = store.create_model_version(
        name,
        source=uri,
        tags=known,
        description=training_runs.summary(candidate),
        model_id=uri.removeprefix("models:/"),
    )
    log.info("registered %s version %s (%s)", name, version.version, candidate.name)
    return version


def _ensure_model(store: MlflowClient, name: str, dataset: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        store.create_registered_model(
            name, tags={"dataset": dataset}, description=f"Density models of {dataset} (arcore)."
        )
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _is_whole(store: MlflowClient, version: ModelVersion) -> bool:
    """Tell whether a version's files are there; a server's are taken to be."""
    uri = store.get_model_version_download_uri(version.name, version.version)
    place = urllib.parse.urlparse(uri)
    return place.scheme not in ("", "file") or Path(urllib.parse.unquote(place.path)).exists()


def _point(store: MlflowClient, name: str, alias: str, version: int) -> None:
    if store.get_registered_model(name).aliases.get(alias) != str(version):
        store.set_registered_model_alias(name, alias, str(version))
