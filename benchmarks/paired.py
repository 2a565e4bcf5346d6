"""What one experiment gains over another on the same test rows, with a paired standard error.

Reads the scores that `stages.evaluate` wrote, those of further test splits too, and prints the
differences first minus second in the dataset's unit and in bits/dim as JSON: above 0, the second is
better. Bits of sounds are a ratio of sums, as in the tables, for which their shards must be there.

    python benchmarks/paired.py simulated_pushing-video_pixel_network \
        simulated_pushing-video_pixel_network-actions

An experiment with overrides goes by the name of its folder in models/.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path

import torch

from arcore.units import nats_to_bits_per_dim
from pipeline.core import paths
from pipeline.core.errors import UserError
from pipeline.data import shard_reader, sound_batches
from pipeline.evaluation.measuring import BitErrors
from pipeline.evaluation.reading import Evaluated, read_evaluated
from pipeline.evaluation.results import Score
from pipeline.evaluation.scoring import mean_and_error
from pipeline.experiments import compose, naming
from stages import cli


def scores(path: Path) -> dict[int, float]:
    """Return the nats of each row that was scored."""
    with path.open(newline="", encoding="utf-8") as file:
        return {int(line["row"]): float(line["nats"]) for line in csv.DictReader(file)}


def lengths(one: Evaluated, file: str, rows: list[int]) -> torch.Tensor | None:
    """Return the lengths of sounds that were scored, (rows,); None for events of one length."""
    if not one.event.is_open:
        return None
    split = Path(file).stem.removeprefix("scores").removeprefix("_") or "test"
    sounds = shard_reader.read_split(paths.shards(one.result.dataset), split)
    return torch.from_numpy(sound_batches.lengths(sounds)[rows])


def difference(first: Evaluated, second: Evaluated, file: str) -> dict[str, object]:
    """Compare two experiments by a file of scores that both have.

    Raises:
        UserError: unless both scored the same rows.
    """
    ours, theirs = (scores(one.folder / file) for one in (first, second))
    if ours.keys() != theirs.keys():
        raise UserError(f"{file}: expected the same rows for {first.name} and {second.name}")
    apart = torch.tensor([ours[row] - theirs[row] for row in ours], dtype=torch.float64)
    mean, error = mean_and_error(apart)
    errors = BitErrors(first.event, lengths(first, file, list(ours)))
    size, bits_error = errors.mean_size, errors.stderr(apart)
    bits = nats_to_bits_per_dim(mean, first.event, difference=True, size=size)
    score = Score(nats=mean, nats_stderr=error, bits_per_dim=bits, bits_per_dim_stderr=bits_error)
    unit = first.result.unit
    values = (score.value_in(unit, first.event), score.stderr_in(unit, first.event))
    return {
        "rows": len(ours),
        unit: [round(value, 2) for value in values],
        "bits_per_dim": [round(bits, 5), round(bits_error, 5)],
        "second_better": float((apart > 0).double().mean()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("first")
    parser.add_argument("second")
    given = parser.parse_args()
    evaluated = []
    for name in (given.first, given.second):
        dataset = compose.load(name.partition(naming.SEPARATOR)[0]).dataset["name"]
        evaluated.append(read_evaluated(paths.evaluation(dataset, name)))
    first, second = evaluated
    if first.config.dataset_sha256 != second.config.dataset_sha256:
        parser.error("expected experiments on the same data")
    files = ["scores.csv", *(f"scores_{one.split}.csv" for one in first.result.further_tests)]
    print(json.dumps({file: difference(first, second, file) for file in files}, indent=2))


if __name__ == "__main__":
    cli.in_one_line(main)
