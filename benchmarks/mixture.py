"""Score the uniform mixture of trained experiments: ln p(x) = logsumexp_k ln p_k(x) - ln K.

Each experiment joins with the members that its evaluation names (1, or so many masks or
orderings). Prints the validation and test nats of every part and of the mixture as JSON.

    python benchmarks/mixture.py binarized_mnist-made binarized_mnist-made-ensemble
"""

from __future__ import annotations

import argparse
import json

import arcore
from pipeline.core import paths, provenance
from pipeline.data import shard_reader
from pipeline.evaluation import scoring
from pipeline.experiments import compose
from pipeline.training import saved_models
from stages import cli


def members_of(experiment: str) -> tuple[list[arcore.AutoregressiveModel], str]:
    """Return an experiment's members and its dataset."""
    model, config = saved_models.load(experiment).model, compose.load(experiment)
    count = config.evaluation.num_members or model.num_members
    parts = [model] if count == 1 else list(model.ensemble(count))  # type: ignore[call-overload]
    return parts, config.dataset["name"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("experiments", nargs="+")
    names = parser.parse_args().experiments
    loaded = {name: members_of(name) for name in names}
    datasets = {dataset for _, dataset in loaded.values()}
    if len(datasets) != 1:
        parser.error(f"expected experiments on one dataset, got {sorted(datasets)}")
    folder = paths.shards(datasets.pop())
    mixture = arcore.Ensemble(member for parts, _ in loaded.values() for member in parts).eval()
    scored = {name: arcore.Ensemble(parts).eval() for name, (parts, _) in loaded.items()}
    scored["mixture"] = mixture
    results: dict[str, object] = {"commit": provenance.commit(), "num_members": len(mixture)}
    for split in ("valid", "test"):
        rows = shard_reader.read_split(folder, split)
        for name, model in scored.items():
            nats, error = scoring.mean_and_error(scoring.scores(model, rows, 1000))
            results[f"{name} {split} nats"] = [round(nats, 3), round(error, 3)]
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    cli.in_one_line(main)
