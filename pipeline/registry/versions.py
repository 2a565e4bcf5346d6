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


def whole_versions(store: MlflowClient, name: str) -> list[ModelVersion]:
    """Return the versions of a registered model whose files are there."""
    found = mlflow_store.every(store.search_model_versions, f"name = '{name}'")
    return [one for one in found if _is_whole(store, one)]


def _is_whole(store: MlflowClient, version: ModelVersion) -> bool:
    """Tell whether a version's files are there; those of a server are taken to be."""
    uri = store.get_model_version_download_uri(version.name, version.version)
    place = urllib.parse.urlparse(uri)
    return place.scheme not in ("", "file") or Path(urllib.parse.unquote(place.path)).exists()


def point(store: MlflowClient, name: str, alias: str, version: int) -> None:
    """Give an alias to a version, unless it has it."""
    if store.get_registered_model(name).aliases.get(alias) != str(version):
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
