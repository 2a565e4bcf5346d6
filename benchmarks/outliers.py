"""Outliers of ADBench's tables: `arcore.sklearn.OutlierDetector` beside PyOD's detectors.

The semi-supervised protocol: half of a table's inliers train, the other half and all outliers are
scored; both parts are cut to `--most` rows, at random by seed 0. Columns are standardised by the
training rows for all detectors, which have their defaults. AUROC and average precision are by
scikit-learn; a rank counts detectors with a higher value, ties alike, and one that did not run is
last. "held" says whether the share of unseen inliers below the threshold of rate 0.1 is within the
central interval of 95 % of its distribution, beta-binomial in the rows that the threshold is from.

    python benchmarks/outliers.py FOLDER [--only glass ...] [--seconds 15] [--most 3000]
                                         [--json FILE]

FOLDER has ADBench's files (`<number>_<name>.npz` with X and y). PyOD is not among the extras:
`pip install pyod`.
"""

import importlib
import json
import math
import time
import warnings
from pathlib import Path
from typing import Any

import measuring
import numpy as np
import torch
from scipy.stats import betabinom, rankdata
from sklearn.metrics import average_precision_score, roc_auc_score

from arcore.sklearn import OutlierDetector

OURS, RATE, WIDEST = "arcore", 0.1, 200  # columns
PEERS = {
    "IForest": "iforest", "ECOD": "ecod", "COPOD": "copod", "LOF": "lof", "KNN": "knn",
    "OCSVM": "ocsvm", "HBOS": "hbos", "PCA": "pca", "GMM": "gmm",
}  # fmt: skip
Scores = dict[str, dict[str, float]]


def read(path: Path, most: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return training rows, rows that are scored, and which of these are outliers."""
    with np.load(path, allow_pickle=False) as content:
        x, y = content["X"].astype(np.float64), content["y"] != 0
    generator = np.random.default_rng(0)
    inliers, outliers = (generator.permutation(np.flatnonzero(y == odd)) for odd in (False, True))
    train, rest = np.array_split(inliers, 2)
    scored = np.concatenate([rest[:most], outliers[:most]])
    mean, deviation = x[train].mean(0), x[train].std(0)
    x = (x - mean) / np.where(deviation > 0, deviation, 1)
    return x[train[:most]], x[scored], y[scored]


def measured(scores: np.ndarray, odd: np.ndarray, began: float) -> dict[str, float]:
    """Return how well scores, high for outliers, tell them, and the seconds since a time."""
    finite = np.nan_to_num(scores, posinf=1e300, neginf=-1e300)
    return {
        "auroc": float(roc_auc_score(odd, finite)),
        "precision": float(average_precision_score(odd, finite)),
        "seconds": time.perf_counter() - began,
    }


def of_table(path: Path, seconds: float, most: int) -> Scores:
    """Return what each detector reaches on a table."""
    train, x, odd = read(path, most)
    found: Scores = {}
    for name, module in PEERS.items():
        began = time.perf_counter()
        detector = getattr(importlib.import_module(f"pyod.models.{module}"), name)()
        try:
            found[name] = measured(detector.fit(train).decision_function(x), odd, began)
        except (ValueError, np.linalg.LinAlgError) as error:
            print(f"# {path.stem}, {name}: {error}", flush=True)
    if train.shape[1] > WIDEST:
        return found
    began = time.perf_counter()
    ours = OutlierDetector(rate=RATE, seconds=seconds, random_state=0, verbose=False).fit(train)
    scores = ours.score_samples(x)
    found[OURS] = measured(-scores, odd, began)
    flagged, count = int((scores[~odd] < ours.offset_).sum()), int((~odd).sum())
    rows = ours.threshold_.num_rows
    rank = math.floor(ours.threshold_.rate * (rows + 1) + 1e-9)
    low, high = betabinom.interval(0.95, count, rank, rows + 1 - rank)
    found[OURS] |= {"rate": ours.threshold_.rate, "share": flagged / count}
    found[OURS]["held"] = float(low <= flagged <= high)
    return found


def ranks(values: list[float]) -> np.ndarray:
    """Return ranks from 1 for the highest, ties alike."""
    return np.asarray(rankdata([-value for value in values], "average"))


def main() -> None:
    parser = measuring.parser(__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="+", help="names of tables")
    parser.add_argument("--seconds", type=float, default=15, help="of our training")
    parser.add_argument("--most", type=int, default=3000, help="rows of each part")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")  # of peers
    torch.set_num_threads(1)
    names, record = [OURS, *PEERS], {}
    measuring.table_head("table", *names, "held")
    paths = sorted(arguments.folder.glob("*.npz"), key=lambda path: path.stem.partition("_")[2])
    for path in paths:
        name = path.stem.partition("_")[2]
        if arguments.only and name not in arguments.only:
            continue
        record[name] = found = of_table(path, arguments.seconds, arguments.most)
        cells = [f"{found[one]['auroc']:.3f}" if one in found else "-" for one in names]
        held = found.get(OURS, {}).get("held")
        print(f"| {name} | {' | '.join(cells)} | {held} |", flush=True)
        if arguments.json:
            content: dict[str, Any] = {"seconds": arguments.seconds, "tables": record}
            arguments.json.write_text(json.dumps(content, indent=1) + "\n")
    for quantity in ("auroc", "precision"):
        table = [
            ranks([found[one][quantity] if one in found else -1.0 for one in names])
            for found in record.values()
        ]
        mean = np.mean(table, axis=0)
        print(f"| mean rank, {quantity} | {' | '.join(f'{one:.2f}' for one in mean)} | |")
    held = [found[OURS]["held"] for found in record.values() if OURS in found]
    print(f"| rate held | {np.mean(held):.2f} of {len(held)} tables |")


if __name__ == "__main__":
    main()
