"""Make a dataset of files of your own: write local/dataset/<name>.yaml, read a few rows.

Example: python -m stages.add_dataset flowers --images photos/flowers height=64 width=64
"""

import argparse
import shutil

from stages import cli

KINDS = {
    "images": "image_folder",
    "clips": "clip_folder",
    "arrays": "arrays",
    "csv": "csv",
    "sounds": "wav_folder",
    "text": "text",
}
WIDEST = 120  # columns of the summary


def main() -> None:
    """Parse the command line, write the file and print what was found."""
    parser = argparse.ArgumentParser(prog="python -m stages.add_dataset", description=__doc__)
    parser.add_argument("name", metavar="NAME", help="of the dataset: letters, digits and '_'")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--images",
        metavar="PATH",
        help="a folder of PNG, JPEG and WebP files, or of Parquet files or tars with such images",
    )
    source.add_argument(
        "--clips", metavar="FOLDER", help="folders of numbered images, a clip each, or GIFs"
    )
    source.add_argument("--arrays", metavar="FILE", help="an .npy file or .npz archive")
    source.add_argument("--csv", metavar="FILE", help="a table as text, a row per line")
    source.add_argument("--sounds", metavar="FOLDER", help="WAV, FLAC and Ogg files")
    source.add_argument("--text", metavar="PATH", help="a text file, or a folder of .txt files")
    parser.add_argument(
        "overrides", nargs="*", metavar="option=value", help="options of the dataset"
    )
    parser.add_argument("--replace", action="store_true", help="write over a file that is there")
    parser.add_argument(
        "--experiment",
        nargs="?",
        const="",
        metavar="MODEL",
        help="write an experiment into local/params.yaml too, with a model that suits the data, "
        "or the one named",
    )
    arguments = parser.parse_intermixed_args()
    from pipeline.datasets import adding, catalog  # here: --help needs no torch

    for key, kind in KINDS.items():
        if (path := getattr(arguments, key)) is not None:
            dataset, found = adding.add(
                kind, arguments.name, path, arguments.overrides, arguments.replace
            )
            width = min(WIDEST, shutil.get_terminal_size().columns)
            print(adding.summary(dataset, kind, found, width))
    print(f"wrote {catalog.conf_file(arguments.name)}")
    if arguments.experiment is None:
        print(f"next: python -m stages.fetch {dataset.name}")
        print(f"      python -m stages.preprocess {dataset.name}")
        print("or the same command with --replace --experiment, which writes an experiment too")
        return
    from pipeline.training import first_experiment

    chosen = arguments.experiment or None
    rows = adding.training_rows(dataset)
    print("\n".join(first_experiment.add(dataset, rows, chosen, arguments.replace)))


if __name__ == "__main__":
    cli.run(main)
