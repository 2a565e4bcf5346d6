"""Score a test set of yours under a trained model.

Example: python -m stages.score digits-nade test.npy
"""

import argparse

from stages import cli


def main() -> None:
    """Parse the command line; print nats and bits/dim with standard errors, and the rows."""
    parser = argparse.ArgumentParser(prog="python -m stages.score", description=__doc__)
    parser.add_argument(
        "model", metavar="MODEL", help="a folder, or an experiment of models/ or results/"
    )
    parser.add_argument(
        "data",
        metavar="DATASET-OR-FILE",
        help="a prepared dataset, whose test split is scored, or a .npy, .npz or .csv file",
    )
    arguments = parser.parse_args()
    from pipeline.reporting import wording  # here: --help needs no torch
    from pipeline.uses import user_scores

    found = user_scores.score(arguments.model, arguments.data)
    one = found.score
    nats = wording.with_error(one.nats, one.nats_stderr)
    bits = wording.with_error(one.bits_per_dim, one.bits_per_dim_stderr)
    bounds = ["" if exact else "at most " for exact in (found.exact, found.bits_exact)]
    said = f"{bounds[0]}{nats} nats, {bounds[1]}{bits} bits/dim, {found.num_rows:,} rows"
    print(f"{arguments.data}: {said}")


if __name__ == "__main__":
    cli.run(main)
