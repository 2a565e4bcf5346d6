"""Nats of held-out rows of three mixed tables: independent columns, MADE on bits, MADE, any order.

The tables are those that scikit-learn's package contains: penguins and Titanic (OpenML's 42585 and
40945, from its tests) and diabetes. All scores are densities in the units of the file, so that they
compare: for MADE on one-hot bits, a column of reals is cut into bins at quantiles of its training
rows, within which the density is uniform; the outer bins end where the file's values do. The number
of bins is chosen by the validation rows. Whole rows are cut into five folds: fold k is scored by a
model that fold k + 1 stopped and the other three trained, so that each row is scored once. Rows
with missing cells are scored by all five, and their nats are of the known cells.

    python benchmarks/tables.py [--csv results/benchmarks/tables.csv] [--quick]
"""

import argparse
import copy
import csv
import dataclasses
import gzip
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.datasets import load_diabetes
from torch import Tensor, nn

import arcore
from arcore.columns import Column
from arcore.events import Binary, Event, Table
from arcore.families.any_order import AnyOrderModel
from arcore.inference import data_frames
from arcore.layers import table_features

FOLDS, EPOCHS, PATIENCE, BATCH = 5, 100, 20, 50
BINS, MOST_VALUES, ORDERS, EPOCHS_ON_BITS = (3, 6, 12), 20, 8, 500
INDEPENDENT = "independent columns"
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "MADE": ("made", {"hidden": [64], "inputs": "one_hot"}),
    "NADE": ("nade", {"hidden": 64, "inputs": "one_hot"}),
    "any-order transformer": ("any_order_transformer", {"dropout": 0.1}),
}
Scorers = dict[str, Callable[[Tensor], Tensor]]


def openml(number: int, name: str, drop: list[str]) -> pd.DataFrame:
    """Read an ARFF file of scikit-learn's tests."""
    path = files("sklearn.datasets.tests.data.openml").joinpath(f"id_{number}", name)
    text = gzip.decompress(path.read_bytes()).decode()
    head, _, body = text.partition("@DATA" if "@DATA" in text else "@data")
    lines = [line.split() for line in head.splitlines() if line.lower().startswith("@attribute")]
    kinds = {line[1].strip("'"): line[2] for line in lines}
    rows = [line for line in body.strip().splitlines() if not line.startswith("%")]
    frame = pd.DataFrame(list(csv.reader(rows)), columns=list(kinds))
    frame = frame.drop(columns=drop).replace({"?": None, "_": None})
    numbers = [
        name for name, kind in kinds.items() if kind in ("numeric", "REAL") and name in frame
    ]
    return frame.assign(**{name: pd.to_numeric(frame[name]) for name in numbers})


def tables() -> dict[str, pd.DataFrame]:
    titanic = ["name", "ticket", "cabin", "boat", "body", "home.dest"]
    diabetes = load_diabetes(as_frame=True, scaled=False).frame
    return {
        "penguins": openml(42585, "data-v1-dl-21854866.arff.gz", []),
        "Titanic": openml(40945, "data-v1-dl-16826755.arff.gz", titanic),
        "diabetes": diabetes.assign(sex=diabetes["sex"].map({1: "1", 2: "2"})),
    }


def table_of(frame: pd.DataFrame, train: pd.DataFrame) -> Table:
    """Return the table's columns, whole numbers of many values as reals, by the training rows."""
    columns = []
    for column in data_frames.table_of(frame).columns:
        if not column.names and not 0 < column.count <= MOST_VALUES:
            mean, deviation = float(train[column.name].mean()), float(train[column.name].std())
            column = Column(name=column.name, mean=mean, deviation=deviation)
        columns.append(column)
    return Table(columns)


class Independent(nn.Module):
    """The heads of a table's columns, without inputs."""

    def __init__(self, table: Table) -> None:
        super().__init__()
        self.table = table
        self.outputs = nn.Parameter(torch.zeros(table.size, table_features.num_outputs(table)))

    def log_prob(self, x: Tensor) -> Tensor:
        """Score rows, NaN for what is missing."""
        outputs = self.outputs.expand(len(x), -1, -1)
        terms = table_features.conditionals(outputs, self.table).log_prob(x.nan_to_num())
        return torch.where(x.isnan(), 0, terms).sum(1)

    def forward(self, x: Tensor) -> Tensor:
        return -self.log_prob(x)


@dataclasses.dataclass
class Binned:
    """Rows of a table as bits, one-hot, and what a bin's density adds to the nats."""

    table: Table
    edges: dict[str, np.ndarray]

    @classmethod
    def of(cls, table: Table, every: Tensor, train: Tensor, bins: int) -> "Binned":
        edges = {}
        for column, values, known in zip(table.columns, train.t(), every.t(), strict=True):
            if not column.count:
                cuts = np.quantile(values.numpy(), np.linspace(0, 1, bins + 1)[1:-1])
                low, high = float(known.min()), float(known.max())
                inner = cuts[(cuts > low) & (cuts < high)]
                edges[column.name] = np.unique([low, *inner, high])
        return cls(table, edges)

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return bits (N, B) and the sum of ln width, (N,)."""
        bits, widths = [], torch.zeros(len(x), dtype=torch.float64)
        for column, values in zip(self.table.columns, x.t(), strict=True):
            count, level = column.count, values.long()
            if not count:
                edges = self.edges[column.name]
                count = len(edges) - 1
                place = np.searchsorted(edges, values.numpy(), side="right") - 1
                level = torch.from_numpy(place).clamp(0, count - 1)
                widths += torch.from_numpy(np.log(np.diff(edges)))[level]
            bits.append(torch.nn.functional.one_hot(level, count))
        return torch.cat(bits, 1), widths


def fitted(model: nn.Module, train: Tensor, valid: Tensor, epochs: int) -> float:
    """Train, keep the weights of the epoch with the least validation nats, and return these."""
    torch.manual_seed(0)
    rate = 0.02 if isinstance(model, Independent) else 0.003
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.01)
    least, kept, last = math.inf, {}, 0
    for epoch in range(epochs):
        model.train()
        for rows in torch.randperm(len(train)).split(BATCH):
            optimizer.zero_grad()
            model(train[rows]).mean().backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        model.eval()
        with torch.no_grad():
            found = -float(model.log_prob(valid).mean())  # type: ignore[operator]
        if found < least:
            least, last, kept = found, epoch, copy.deepcopy(model.state_dict())
        if epoch - last >= PATIENCE:
            break
    model.load_state_dict(kept)
    return least


def created(name: str, event: Event, hyperparameters: dict[str, Any]) -> arcore.AutoregressiveModel:
    """Create a model whose first weights depend on no training before."""
    torch.manual_seed(0)
    return arcore.create_model(name, event, **hyperparameters)


def scorers(
    table: Table, x: Tensor, train: Tensor, valid: Tensor, epochs: int, names: Sequence[str]
) -> Scorers:
    """Train models; return what gives the nats of rows by each."""
    alone = Independent(table)
    fitted(alone, train, valid, epochs)
    on_bits = []
    for bins in BINS:
        binned = Binned.of(table, x, train, bins)
        (bits, _), (held, widths) = binned(train), binned(valid)
        made = created("made", Binary((bits.shape[1],)), {"hidden": [64]})
        most = epochs * EPOCHS_ON_BITS // EPOCHS
        least = fitted(made, bits, held, most) + float(widths.mean())
        on_bits.append((least, made, binned))
    _, made, binned = min(on_bits, key=lambda one: one[0])
    found: Scorers = {
        INDEPENDENT: lambda x: -alone.log_prob(x),
        "MADE on one-hot bits": lambda x: binned(x)[1] - made.log_prob(binned(x)[0]),
    }
    for title in names:
        model = created(MODELS[title][0], table, MODELS[title][1])
        fitted(model, train, valid, epochs)
        found[title] = partial(minus_log_prob, model)
        if isinstance(model, AnyOrderModel):
            found[f"{title}, {ORDERS} orders mixed"] = partial(
                minus_log_prob, model.ensemble(ORDERS)
            )
    return found


def minus_log_prob(model: arcore.AutoregressiveModel, x: Tensor) -> Tensor:
    return -data_frames.log_prob(model, x)


@torch.no_grad()
def nats_of(scorers: Scorers, x: Tensor) -> dict[str, Tensor]:
    """Score rows, by the models that score missing cells if there are any."""
    kept = [title for title in scorers if "order" in title or title == INDEPENDENT]
    return {title: scorers[title](x).double() for title in (kept if x.isnan().any() else scorers)}


def measured(
    frame: pd.DataFrame, num_folds: int, epochs: int, names: Sequence[str]
) -> Iterator[list[str]]:
    """Yield the rows of a table's lines: of its whole rows, and of those with missing cells."""
    whole, broken = frame.dropna(), frame[frame.isna().any(axis=1)]
    order = torch.randperm(len(whole), generator=torch.Generator().manual_seed(0))
    folds, found = order.tensor_split(FOLDS), []
    for fold in range(num_folds):
        test, valid, *rest = (folds[(fold + k) % FOLDS] for k in range(FOLDS))
        train = torch.cat(rest)
        table = table_of(frame, whole.iloc[train.tolist()])
        x = data_frames.to_tensor(whole, table)
        every = scorers(table, x, x[train], x[valid], epochs, names)
        missing = data_frames.to_tensor(broken, table)
        found.append((nats_of(every, x[test]), nats_of(every, missing) if len(broken) else {}))
    for what, join in enumerate((torch.cat, lambda parts: torch.stack(parts).mean(0))):
        nats = {title: join([one[what][title] for one in found]) for title in found[0][what]}
        for title, scores in nats.items():
            rows = f"{len(scores):,}" + " with missing cells" * what
            gain = "-" if title == INDEPENDENT else with_error(nats[INDEPENDENT] - scores)
            yield [rows, title, with_error(scores), gain]


def with_error(values: Tensor) -> str:
    return f"{values.mean():.2f} ± {values.std() / math.sqrt(len(values)):.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--quick", action="store_true", help="two epochs of one fold")
    parser.add_argument("--only", nargs="*", help="names of tables")
    parser.add_argument("--models", nargs="*", choices=MODELS, default=list(MODELS))
    given = parser.parse_args()
    torch.set_num_threads(1)
    lines = [["table", "rows", "model", "nats", "less than independent columns"]]
    folds, epochs = (1, 2) if given.quick else (FOLDS, EPOCHS)
    for name, frame in tables().items():
        if not given.only or name in given.only:
            for line in measured(frame, folds, epochs, given.models):
                lines.append([name, *line])
                print(" | ".join(lines[-1]), flush=True)
    if given.csv:
        with open(given.csv, "w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows(lines)


if __name__ == "__main__":
    main()
