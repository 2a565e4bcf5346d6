"""Write the page of each study beside its table, and the index of reports.

Example: python -m reproductions.study_index
"""

from __future__ import annotations

import argparse

from stages import cli


def main() -> None:
    """Write the pages and print where they are."""
    parser = argparse.ArgumentParser(
        prog="python -m reproductions.study_index", description=__doc__
    )
    parser.parse_args()
    from reproductions.studies import study_pages  # here: --help needs no torch

    for path in study_pages.write_all():
        print(path)


if __name__ == "__main__":
    cli.run(main)
