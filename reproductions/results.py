"""Keep what was measured: copy records and pictures to results/, draw tables and the gallery.

Example: python -m reproductions.results --experiments dna-nade --datasets dna --tables
"""

import argparse

from arcore import hub
from pipeline.core import paths
from reproductions.publishing import picture_book, recording, text_tables
from stages import cli


def main() -> None:
    """Parse the command line and copy what it names; tables come last."""
    parser = argparse.ArgumentParser(prog="python -m reproductions.results", description=__doc__)
    kinds = {
        "experiments": recording.record_experiment,
        "folds": recording.record_folds,
        "searches": recording.record_search,
        "studies": recording.record_study,
        "datasets": recording.record_table,
        "gallery": picture_book.record,
    }
    for kind in kinds:
        about = "keep the pictures of these experiments" if kind == "gallery" else None
        parser.add_argument(f"--{kind}", nargs="*", default=[], metavar="name", help=about)
    parser.add_argument(
        "--embedded",
        nargs="*",
        default=[],
        metavar="dataset",
        help="keep what `make repro` measured on these as results/embedded.csv",
    )
    parser.add_argument(
        "--tables",
        action="store_true",
        help="draw the tables of results/, README.md and docs/, the gallery, and hub.json, again",
    )
    options = vars(parser.parse_args())
    if not any(options.values()):
        parser.error(
            "expected names of experiments, folds, searches, studies, datasets or models of the "
            "gallery, --embedded or --tables, got none"
        )
    for kind, record in kinds.items():
        for name in options[kind]:
            record(name)
    if options["embedded"]:
        recording.record_embedded(options["embedded"])
    if options["tables"]:
        for path in text_tables.write(paths.root()):
            print(f"wrote {path}")
        hub.write_index(paths.results())


if __name__ == "__main__":
    cli.run(main)
