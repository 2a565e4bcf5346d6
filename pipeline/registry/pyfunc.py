"""The script that MLflow runs to load a registered model ("models from code"); no pickle.

It travels with the model and runs where neither this repository nor its pipeline is installed:
it imports arcore (which travels too), torch, yaml and safetensors, and nothing of ours else.

Example:
    >>> import mlflow, numpy                                              # doctest: +SKIP
    >>> model = mlflow.pyfunc.load_model("models:/arcore-digits@champion")  # doctest: +SKIP
    >>> images = model.predict(                                           # doctest: +SKIP
    ...     numpy.empty((0, 1, 8, 8), "int64"), params={"method": "sample", "num_samples": 4}
    ... )
    >>> model.predict(images)                    # columns nats, bits_per_dim  # doctest: +SKIP
"""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import torch
import yaml
from mlflow.pyfunc import PythonModel  # type: ignore[attr-defined, unused-ignore]

import arcore
from arcore.columns import Column
from arcore.inference import Threshold, data_frames
from arcore.inference.row_shapes import in_shape

Rows = np.ndarray | torch.Tensor
SCALINGS = "scalings.json"
VALIDATION = "scores_valid.csv"
BATCH = 256  # rows at once, where the config does not say how many an evaluation takes
MAX_SAMPLES = 1 << 16  # of a batch of sounds, unless one has more: as the evaluation scores them


def load(folder: str | Path) -> arcore.AutoregressiveModel:
    """Load a model's folder as its `config.yaml` says that it was evaluated.

    Weights of another architecture or dtype, or that are not finite, are a ValueError.
    """
    content = yaml.safe_load(Path(folder, "config.yaml").read_text(encoding="utf-8"))
    model = arcore.load(folder)
    members = int((content.get("evaluation") or {}).get("num_members") or 1)
    if members > 1:
        model = model.ensemble(members)
    return model.eval().requires_grad_(False)


def check_files(folder: str | Path, expected: Mapping[str, str]) -> None:
    """Check that a folder has the files that were registered."""
    for name, sha256 in expected.items():
        path = Path(folder, name)
        got = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "no file"
        if got != sha256:
            raise ValueError(f"{path}: expected the file that was registered ({sha256}), got {got}")


def read_scalings(folder: str | Path) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Read means and deviations, (*row) float64 each, of `x` and of `conditions`, if any."""
    path = Path(folder, SCALINGS)
    if not path.is_file():
        return {}
    found = json.loads(path.read_text(encoding="utf-8"))
    return {
        role: (
            torch.tensor(one["mean"], dtype=torch.float64),
            torch.tensor(one["deviation"], dtype=torch.float64),
        )
        for role, one in found.items()
    }


class ArcoreModel(PythonModel):  # type: ignore[misc, unused-ignore]
    """Scores events, or draws samples, by `params["method"]`."""

    batch_size = BATCH
    context_frames = 0
    columns: arcore.events.Table | None = None  # of a row, where they have names
    scalings: Mapping[str, tuple[torch.Tensor, torch.Tensor]] = {}
    validation: torch.Tensor | None = None  # nats of rows, in the units of the shards

    def load_context(self, context: Any) -> None:
        """Load the model from the artifact folder `model`, whose files must be those on record."""
        folder = context.artifacts["model"]
        check_files(folder, (context.model_config or {}).get("sha256") or {})
        self.model = load(folder)
        self.scalings = read_scalings(folder)
        scores = Path(folder, VALIDATION)
        if scores.is_file():
            self.validation = torch.tensor(pd.read_csv(scores)["nats"].to_numpy())
        content = yaml.safe_load(Path(folder, "config.yaml").read_text(encoding="utf-8"))
        self.batch_size = int(content["evaluation"].get("batch_size") or BATCH)
        self.context_frames = int(content["evaluation"].get("context_frames") or 0)
        if named := content.get("columns"):
            self.columns = arcore.events.Table([Column(**one) for one in named])

    def predict(  # type: ignore[override, unused-ignore]
        self, context: Any, model_input: np.ndarray, params: dict[str, Any] | None = None
    ) -> pd.DataFrame | np.ndarray:
        """Score or sample; values that were standardised are taken and given as they were before.

        Arguments:
            context: MLflow's, unused.
            model_input: events to score: an array, tensor or list (N, *shape), flattened (N, D)
                or as `in_shape` takes it, or a DataFrame with one column per
                dimension, or one column of lists; or its columns as a dict. A model of a table file
                takes a DataFrame by the names of the file's columns, in any order, in the file's
                units, with missing cells where it takes any order. "sample" ignores them (give an
                empty array), but for clips whose first frames the protocol gives: those are kept,
                and the rest of each clip is drawn.
            params: `method` ("score" or "sample"), `num_samples` (16), `seed` (0), `length` (4000)
                of samples of open length, `condition`: class labels, one per row, or with a local
                condition all rows' integers one after the other, `vectors`: the numbers of all
                rows' conditions one after the other, and `rate`: the false-positive rate to aim
                at, 0 (the default) to call no rows outliers.

        Returns:
            For "score" a DataFrame with columns `nats` (of the frames after the given ones, as in
            the report) and `bits_per_dim`, upper bounds where the model's tag `exact` is False,
            bits also where levels were dequantised, and with a `rate` the column `outlier`; for
            "sample" an array (num_samples, *shape) of int64 levels, or reals (float64 where they
            were standardised), and of a table a DataFrame with the file's columns.

        Raises:
            ValueError: for an unknown method, or events or labels that do not fit the model.
        """
        params = params or {}
        method = params.get("method", "score")
        if method not in ("score", "sample"):
            raise ValueError(f"method: expected 'score' or 'sample', got {method!r}")
        by_row = method == "score" or self.context_frames
        count = len(model_input) if by_row else int(params.get("num_samples", 16))
        condition = self._condition(params, count)
        if method == "score":
            scores = self._score(self._rows(model_input), condition)
            rate = float(params.get("rate", 0))
            return scores.assign(outlier=scores["nats"] > self._limit(rate)) if rate else scores
        generator, model = torch.Generator().manual_seed(int(params.get("seed", 0))), self.model
        if self.context_frames:
            return self._complete(self._rows(model_input), condition, generator)
        if model.event.is_open:
            model = model.of_length(int(params.get("length", 4000)))
        if arcore.events.is_table(model.event):
            return data_frames.sample(model, count, condition, generator)
        samples = model.sample(count, condition, generator=generator)
        if "x" in self.scalings:
            mean, deviation = self.scalings["x"]
            samples = samples.double() * deviation + mean
        return np.asarray(samples.numpy())

    def _rows(self, given: Any) -> Rows:
        """Turn what a caller may hold into one array of all rows, which is no copy if it is one."""
        event = self.model.event
        table = event if arcore.events.is_table(event) else self.columns
        if isinstance(given, Mapping):
            # MLflow's server holds some cells in arrays without an axis
            given = pd.DataFrame(
                {
                    name: [np.asarray(cell).tolist() for cell in cells]
                    for name, cells in given.items()
                }
            )
        if not isinstance(given, pd.DataFrame):
            return given if isinstance(given, torch.Tensor) else np.asarray(given)
        if table is not None:
            numbers = data_frames.to_tensor(given, table)
            if table is not event and bool(numbers.isnan().any()):
                raise ValueError("frame: expected whole rows, got missing cells")
            return numbers
        if given.shape[1] != 1 or event.shape == (1,):
            return given.to_numpy()
        if not len(given):
            return np.empty((0, *(1 if extent is None else extent for extent in event.shape)))
        return np.stack([np.asarray(row) for row in given.iloc[:, 0]])

    def _complete(
        self, table: Rows, condition: torch.Tensor | None, generator: torch.Generator
    ) -> np.ndarray:
        """Draw the frames of clips after the given ones."""
        if not len(table):
            frames = f"the first {self.context_frames} frames are kept"
            raise ValueError(f"model_input: expected clips, of which {frames}, got none")
        extents = self.model.event.extents
        observed = torch.arange(extents[0]) < self.context_frames
        observed = observed.view(-1, 1, 1, 1).expand(extents)
        drawn = [
            self.model.impute(events, observed, part, generator)
            for events, part in self._batches(table, condition)
        ]
        return np.asarray(torch.cat(drawn).numpy())

    def _condition(self, params: dict[str, Any], rows: int) -> torch.Tensor | None:
        """Shape the numbers of the one parameter that the model's kind of condition takes."""
        numbers_of = {name: params.get(name) for name in ("condition", "vectors")}
        given = {k: np.asarray(v) for k, v in numbers_of.items() if v is not None and len(v)}
        kind = self.model.condition_kind
        if kind is None:
            for name in given:
                raise ValueError(f"{name}: expected none for an unconditional model")
            return None
        wanted = "condition" if kind.is_integer else "vectors"
        for name in given.keys() - {wanted}:
            raise ValueError(f"{name}: expected {wanted}, {kind.expected(rows)}")
        if wanted not in given:
            return None  # which the model refuses in its own words
        dtype = torch.int64 if kind.is_integer else torch.float64
        numbers = torch.as_tensor(given[wanted], dtype=dtype)
        try:
            shaped = kind.unflatten(numbers, rows)
        except RuntimeError:
            expected = f"the numbers of {kind.expected(rows)}"
            raise ValueError(f"{wanted}: expected {expected}, got {len(numbers)}") from None
        if kind.is_integer:
            return shaped
        if "conditions" in self.scalings:
            mean, deviation = self.scalings["conditions"]
            shaped = (shaped - mean) / deviation
        return shaped.to(self.model.dtype)

    def _score(self, table: Rows, condition: torch.Tensor | None) -> pd.DataFrame:
        parts = []
        with torch.no_grad():
            for events, part in self._batches(table, condition):
                if len(events):
                    parts.append(-self._log_prob(events, part))
        nats = self._in_units(torch.cat(parts) if parts else torch.empty(0))
        size = math.prod(table.shape[1:]) if self.model.event.is_open else None
        event = arcore.events.after_frames(self.model.event, self.context_frames)
        bits = arcore.units.nats_to_bits_per_dim(nats, event, size=size)
        return pd.DataFrame({"nats": nats.numpy(), "bits_per_dim": bits.numpy()})

    def _in_units(self, nats: torch.Tensor) -> torch.Tensor:
        """Return nats of events as they were before they were standardised, if they were."""
        if "x" not in self.scalings:
            return nats
        # -ln p(x) = -ln p((x - mean) / deviation) + sum ln deviation
        return nats + self.scalings["x"][1].log().sum().to(nats.dtype)

    def _limit(self, rate: float) -> float:
        """Return the nats above which rows are outliers, by the scores of validation rows."""
        if self.validation is None:
            again = "evaluate and register it again"
            raise ValueError(f"rate: expected 0 for a version without validation scores; {again}")
        limit = -Threshold.fit(-self._in_units(self.validation), rate).score
        return limit + 1e-5 * abs(limit) + 1e-5  # ties may differ in rounding

    def _batches(
        self, table: Rows, condition: torch.Tensor | None
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor | None]]:
        """Check and convert rows, with their conditions, as many at once as its entry said."""
        count = self.batch_size
        if self.model.event.is_open:
            count = max(1, min(count, MAX_SAMPLES // max(1, math.prod(table.shape[1:]))))
        for first in range(0, max(1, len(table)), count):  # the shape of no rows is checked too
            rows = slice(first, first + count)
            part = None if condition is None else condition[rows]
            yield _events(self._standardized(table[rows]), self.model.event), part

    def _standardized(self, rows: Rows) -> Rows:
        """Standardise rows of numbers, if the model's are; of another shape they are refused so."""
        if "x" not in self.scalings:
            return rows
        mean, deviation = self.scalings["x"]
        is_array = not isinstance(rows, torch.Tensor)
        fits = tuple(rows.shape[1:]) in (tuple(mean.shape), (mean.numel(),))
        if not fits or (is_array and rows.dtype.kind not in "biuf"):  # type: ignore[union-attr]
            return rows
        numbers = torch.as_tensor(np.array(rows) if is_array else rows, dtype=torch.float64)
        return (numbers.reshape(-1, *mean.shape) - mean) / deviation

    def _log_prob(self, x: torch.Tensor, condition: torch.Tensor | None) -> torch.Tensor:
        scored = None
        if self.context_frames:
            scored = torch.tensor([self.context_frames, x.shape[1]]).expand(len(x), 2)
        if arcore.events.is_table(self.model.event):
            return data_frames.log_prob(self.model, x, condition)
        return self.model.log_prob(x, condition, scored)


def _events(rows: Rows, event: arcore.events.Event) -> torch.Tensor:
    """Check rows of a table, and turn them into a batch (N, *shape)."""
    if not isinstance(rows, torch.Tensor):
        if rows.dtype.kind not in "biuf":
            raise ValueError(f"model_input: expected numbers, got dtype {rows.dtype}")
        rows = torch.from_numpy(np.array(rows))  # a copy, since torch takes no read-only array
    batch = in_shape(rows, event)
    if arcore.events.is_table(event):
        event.check(torch.where(batch.isnan(), 0, batch), "model_input")
        return batch.double()
    if arcore.events.is_real(event):
        return event.check(batch.to(torch.get_default_dtype()), "model_input")
    return event.check(batch, "model_input").long()


mlflow.models.set_model(ArcoreModel())
