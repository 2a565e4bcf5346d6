"""Keep what was measured: copy records to results/, and draw results/<dataset>.md from them.

Example: python -m stages.results --experiments dna-nade --datasets dna
"""

from __future__ import annotations

import argparse

from pipeline.reporting import recording
from stages import cli


def main() -> None:
    """Parse the command line and copy what it names; tables come last."""
    parser = argparse.ArgumentParser(prog="python -m stages.results", description=__doc__)
    kinds = {
        "experiments": recording.record_experiment,
        "folds": recording.record_folds,
        "searches": recording.record_search,
        "datasets": recording.record_table,
    }
    for kind in kinds:
        parser.add_argument(f"--{kind}", nargs="*", default=[], metavar="name")
    options = vars(parser.parse_args())
    if not any(options.values()):
        parser.error("expected names of experiments, folds, searches or datasets, got none")
    for kind, record in kinds.items():
        for name in options[kind]:
            record(name)


if __name__ == "__main__":
    cli.run(main)
