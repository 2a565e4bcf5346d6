"""A trained model as one of MLflow's, which needs nothing else to be loaded."""

from __future__ import annotations

import importlib.metadata
import json
import re
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
import yaml

import arcore
from arcore import hub
from arcore.events import Table
from arcore.inference import data_frames
from pipeline.core.atomic import sha256_of
from pipeline.core.errors import explained
from pipeline.datasets.scaling import Scaling
from pipeline.experiments.schema import EvaluationConfig
from pipeline.registry.candidates import Candidate
from pipeline.tracking import mlflow_store
from pipeline.training import saved_models
from pipeline.training.validation import rows_at_once

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.models import ModelSignature

FORMAT = 2  # of what is exported: versions of another one are registered again
FRAMES = 16  # of an example of open length
EXAMPLE_NUMBERS = 10_000  # in an example of several rows
CONFIG, WEIGHTS = hub.FILES
Rows = np.ndarray | pd.DataFrame
Example = Rows | tuple[Rows, dict[str, list[float]]]


def log_exported_model(
    store: MlflowClient,
    run_id: str,
    candidate: Candidate,
    scalings: Mapping[str, Scaling] | None = None,
    columns: Table | None = None,
) -> str:
    """Log a model into a run, so that `mlflow.pyfunc.load_model` needs nothing else.

    Weights travel as safetensors, the config as YAML, the code (`pipeline/registry/pyfunc.py` and
    the arcore package) as source; no pickle. The run is not started again, so that it keeps the
    duration of its training. Where values were standardised, the model takes and gives them as they
    were before.
    """
    from mlflow.entities import LoggedModelOutput, Metric

    uri = str(store.tracking_uri)
    run = store.get_run(run_id)
    with (
        tempfile.TemporaryDirectory() as scratch,
        mlflow_store.quiet(),
        mlflow_store.fluent(uri) as mlflow,
    ):
        exported = Path(scratch, "model")
        exported.mkdir()
        signature, example = _export(candidate, exported, scalings, columns)
        model = store.create_logged_model(
            run.info.experiment_id,
            name=re.sub(r"[/:.%\"']", "-", run.info.run_name or "model"),  # what MLflow takes
            source_run_id=run_id,
            params=run.data.params,
        )
        info = mlflow.pyfunc.log_model(
            model_id=model.model_id,
            python_model=str(Path(__file__).with_name("pyfunc.py")),
            artifacts={"model": str(exported)},
            model_config={"sha256": {path.name: sha256_of(path) for path in exported.iterdir()}},
            code_paths=[str(Path(arcore.__file__).parent)],
            signature=signature,
            input_example=example,
            pip_requirements=_requirements(),
        )
    store.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    metrics, now = candidate.result.tracked(), int(time.time() * 1000)
    logged = [Metric(*item, now, 0, model_id=model.model_id) for item in metrics.items()]
    store.log_batch(run_id, metrics=logged)
    return str(info.model_uri)


def _export(
    candidate: Candidate,
    exported: Path,
    scalings: Mapping[str, Scaling] | None,
    columns: Table | None,
) -> tuple[ModelSignature, Example]:
    """Copy what a model is, with the protocol of its evaluation in the config."""
    from pipeline.registry import pyfunc

    config, result = candidate.evaluated.config, candidate.result
    found = config.content.get("evaluation")
    given = dict(found) if isinstance(found, dict) else {}
    asked = int(given.get("batch_size") or EvaluationConfig().batch_size)
    given["batch_size"] = rows_at_once(config.event, asked)  # as the evaluation does
    given["num_members"] = result.num_members
    given["context_frames"] = result.context_frames
    named = {} if columns is None else {"columns": columns.to_dict()["columns"]}
    plain = {**config.content, "evaluation": given, **named}
    content = yaml.safe_dump(plain, sort_keys=False)
    (exported / "config.yaml").write_text(content, encoding="utf-8")
    weights = shutil.copyfile(candidate.folder / WEIGHTS, exported / WEIGHTS)
    shutil.copyfile(candidate.folder / CONFIG, exported / CONFIG)
    saved_models.check_weights(weights, candidate.weights_sha256, candidate.name)
    if candidate.validation.is_file():
        shutil.copyfile(candidate.validation, exported / pyfunc.VALIDATION)
    if scalings:
        described = json.dumps({role: one.to_dict() for role, one in scalings.items()})
        (exported / pyfunc.SCALINGS).write_text(described, encoding="utf-8")
    with explained(f"{candidate.name}:", ValueError):  # of a model of other code
        return _signature(pyfunc.load(exported), scalings or {}, columns)


def _signature(
    model: arcore.AutoregressiveModel,
    scalings: Mapping[str, Scaling],
    columns: Table | None = None,
) -> tuple[ModelSignature, Example]:
    """Return what `predict` returns, and an example: zeros, or the mean of the values.

    The signature has no inputs. With inputs, MLflow's server would cast requests (0.5 to level 0),
    and MLflow would refuse flat rows and other dtypes. The script checks its input itself.
    """
    from mlflow.models import ModelSignature
    from mlflow.types.schema import ColSpec, ParamSchema, ParamSpec, Schema

    event = model.event
    row = np.zeros([extent or FRAMES for extent in event.shape], np.int64)
    if arcore.events.is_table(event):
        row = np.array([0.0 if column.count else column.mean for column in event.columns])
    if arcore.events.is_real(event):
        row = scalings["x"].mean if "x" in scalings else row.astype(np.float32)
    num_rows = 2 if 2 * row.size <= EXAMPLE_NUMBERS else 1
    rows: Rows = np.stack([row] * num_rows)
    table = event if arcore.events.is_table(event) else columns
    if table is not None:
        rows = data_frames.to_frame(torch.from_numpy(rows), table)
    of_scores = "double" if model.dtype == torch.float64 else "float"
    outputs = Schema([ColSpec(of_scores, name) for name in ("nats", "bits_per_dim")])
    params = ParamSchema(
        [
            ParamSpec("method", "string", "score"),
            ParamSpec("num_samples", "long", 16),
            ParamSpec("seed", "long", 0),
            ParamSpec("condition", "long", [], (-1,)),
            ParamSpec("vectors", "double", [], (-1,)),
            ParamSpec("length", "long", 4000),
            ParamSpec("rate", "double", 0.0),
        ]
    )
    signature = ModelSignature(outputs=outputs, params=params)
    kind = model.condition_kind
    if kind is None:
        return signature, rows
    given = [0 if kind.is_integer else 0.0] * kind.numbers(FRAMES)
    if "conditions" in scalings:
        given = scalings["conditions"].mean.ravel().tolist()
    return signature, (rows, {"condition" if kind.is_integer else "vectors": given * num_rows})


def _requirements() -> list[str]:
    installed = importlib.metadata.version
    torch_version = installed("torch").split("+")[0]
    pinned = [f"{name}=={installed(name)}" for name in ("numpy", "pandas", "pyyaml", "safetensors")]
    return [f"torch>={torch_version},<{int(torch_version.split('.')[0]) + 1}", *pinned]
