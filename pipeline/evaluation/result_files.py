"""The files of a result.

`metrics.json` is the whole result but for its seconds and its device, which are in `timing.json`:
DVC ignores that file, so that `dvc.lock` has nothing in it that differs from run to run.
`metrics/<experiment>.json` holds the few numbers of `dvc metrics`.
"""

from pathlib import Path

from arcore.events import Event
from pipeline.artifacts.artifact import EVALUATION
from pipeline.artifacts.reader import read_origin
from pipeline.core import paths
from pipeline.core.records import read_object, write_object
from pipeline.evaluation.result_records import Result

TIMING = ("train_seconds", "evaluate_seconds", "sample_seconds", "coded_seconds", "device")


def write(result: Result, folder: Path) -> None:
    """Write `metrics.json` and `timing.json` into an evaluation's folder."""
    whole = result.to_dict()
    path = folder / "metrics.json"
    write_object(path, {key: value for key, value in whole.items() if key not in TIMING})
    write_object(folder / "timing.json", {key: whole[key] for key in TIMING if key in whole})


def read(folder: Path) -> Result:
    """Read a result; its seconds and its device are None where `timing.json` is of another one.

    DVC restores `metrics.json` from its cache, and leaves a `timing.json` that is there as it is.
    """
    path = folder / "metrics.json"
    timing = read_origin(folder, EVALUATION) or {}
    found = read_object(path) | {key: timing[key] for key in TIMING if key in timing}
    return Result.from_dict(found, str(path))


def write_summary(result: Result, event: Event) -> Path:
    """Write `metrics/<experiment>.json`: the value in the dataset's unit; of a bound its levels."""
    path = paths.root() / "metrics" / f"{result.experiment}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    summary: dict[str, object] = {
        "value": result.score.value_in(result.unit, event),
        "stderr": result.score.stderr_in(result.unit, event),
        "unit": result.unit,
    }
    if result.is_bound_in(result.unit, event):
        summary["relation"] = "at most"
    if result.bound is not None:
        summary["level_nats"] = result.bound.level_nats
    write_object(path, summary)
    return path
