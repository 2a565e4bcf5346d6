"""Addresses of MLflow's pages."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pipeline.core.redaction import redacted
from pipeline.tracking import mlflow_store

if TYPE_CHECKING:
    from mlflow import MlflowClient

LOCAL = "http://127.0.0.1:5000"  # where `make ui` listens
PREFIX = "arcore-"
_TRAINING = "workflowType=machine_learning"  # else MLflow shows its pages of traces and agents


def server() -> str:
    """Return the address of the server that MLFLOW_TRACKING_URI names, else that of `make ui`."""
    uri = os.environ.get("MLFLOW_TRACKING_URI", "").strip()
    return redacted(uri).rstrip("/") if uri.startswith(("http://", "https://")) else LOCAL


def run_page(run_id: str) -> str:
    """Return the address of a run's page.

    Example:
        >>> "/#/runs/4d1f" in run_page("4d1f")
        True
    """
    return f"{server()}/#/runs/{run_id}?{_TRAINING}"


def models_page() -> str:
    """Return the address of the page of registered models."""
    return f"{server()}/#/models?{_TRAINING}"


def overview(store: MlflowClient, address: str | None = None) -> str:
    """List the addresses of every experiment's runs and of the models registered, one a line.

    Arguments:
        store: to look into.
        address: of the server; None for `server()`.
    """
    base = (address or server()).rstrip("/")
    with mlflow_store.quiet():
        experiments = store.search_experiments(order_by=["name ASC"])
        models = store.search_registered_models(order_by=["name ASC"])
    lines = [
        (
            one.name.removeprefix(PREFIX),
            f"{base}/#/experiments/{one.experiment_id}/runs?{_TRAINING}",
        )
        for one in experiments
        if one.name.startswith(PREFIX)
    ]
    if models:
        lines.append(("models", f"{base}/#/models?{_TRAINING}"))
    if not lines:
        return f"no runs yet; MLflow on {base}"
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"  {name.ljust(width)}  {page}" for name, page in lines)
