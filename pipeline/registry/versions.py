"""MLflow's registry: models, their versions and aliases."""

from __future__ import annotations

import contextlib
import io
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.tracking import mlflow_store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion


def ensure_model(store: MlflowClient, name: str, dataset: str) -> None:
    """Make a registered model, unless it is there."""
    from mlflow.exceptions import MlflowException

    try:
        store.create_registered_model(
            name, tags={"dataset": dataset}, description=f"Density models of {dataset} (arcore)."
        )
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def versions(store: MlflowClient, name: str) -> list[ModelVersion]:
    """Return all versions of a registered model."""
    found: list[ModelVersion] = []
    token = None
    while True:
        page = store.search_model_versions(f"name = '{name}'", page_token=token)
        found.extend(page)
        token = page.token
        if not token:
            return found


def first_of(store: MlflowClient, version: ModelVersion, tag: str) -> ModelVersion:
    """Return the first whole version with the same tag, and remove a later one that was just made.

    Two hosts that register the same at once, which share no lock, each make a version: both see the
    first one here, so that one remains.
    """
    same = [
        other
        for other in versions(store, version.name)
        if other.tags.get(tag) == version.tags.get(tag) and is_whole(store, other)
    ]
    first = min(same, key=lambda other: int(other.version), default=version)
    if int(first.version) < int(version.version):
        store.delete_model_version(version.name, version.version)
        return first
    return version


def is_whole(store: MlflowClient, version: ModelVersion) -> bool:
    """Tell whether a version's files are there; those of a server are taken to be."""
    uri = store.get_model_version_download_uri(version.name, version.version)
    place = urllib.parse.urlparse(uri)
    if place.scheme not in ("", "file"):
        return True
    return Path(urllib.parse.unquote(place.path)).exists()


def aliased(store: MlflowClient, name: str, alias: str) -> int | None:
    """Return the version that carries an alias, None where none does."""
    version = store.get_registered_model(name).aliases.get(alias)
    return None if version is None else int(version)


def point(store: MlflowClient, name: str, alias: str, version: int) -> None:
    """Give an alias to a version, unless it has it."""
    if aliased(store, name, alias) != version:
        store.set_registered_model_alias(name, alias, str(version))


def register(
    store: MlflowClient, name: str, model_uri: str, tags: Mapping[str, str]
) -> ModelVersion:
    """Register a logged model as a new version."""
    # register_model reports on stderr by print, which no log level silences.
    with (
        mlflow_store.fluent(str(store.tracking_uri)) as mlflow,
        contextlib.redirect_stderr(io.StringIO()),
    ):
        version: ModelVersion = mlflow.register_model(model_uri, name, tags=dict(tags))
    return version
