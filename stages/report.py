"""Stage `report`: a dataset's results and the published ones, as Markdown, CSV and HTML.

Example: python -m stages.report digits; python -m stages.report --show
"""

import argparse

from stages import cli


def main() -> None:
    """Write one dataset's report, or print existing ones."""
    parser = argparse.ArgumentParser(prog="python -m stages.report", description=__doc__)
    parser.add_argument("datasets", nargs="*", metavar="dataset")
    parser.add_argument("--show", action="store_true", help="only print the tables that exist")
    options = parser.parse_args()
    if not options.show and not options.datasets:
        parser.error("which dataset?")
    from pipeline.datasets import catalog

    if not options.show:
        for dataset in options.datasets:
            catalog.load_settings(dataset)  # an unknown one is named, with what is near it
    from pipeline.reporting import report_files  # here: --help and an unknown name need no pandas

    if options.show:
        print(report_files.show(options.datasets))
        if (page := report_files.write_index()) is not None:
            print(f"\nThe same with curves and samples: {page}; runs and models: make ui")
        return
    for dataset in options.datasets:
        report_files.write(dataset)


if __name__ == "__main__":
    cli.run(main)
