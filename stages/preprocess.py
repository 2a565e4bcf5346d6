"""Stage preprocess: decode data/raw/<dataset>/ into Parquet shards in data/shards/<dataset>/.

Example: python -m stages.preprocess dna split=as_distributed
"""

from __future__ import annotations

import argparse

from stages import cli


def main() -> None:
    """Parse the command line and write the shards."""
    from pipeline.cluster import distributed_decoding  # here: a warm process has them
    from pipeline.core import paths
    from pipeline.data import preprocessing, shard_reader
    from pipeline.datasets import catalog
    from pipeline.experiments import groups

    parser = argparse.ArgumentParser(
        prog="python -m stages.preprocess",
        description="Decode a dataset's raw files into Parquet shards and a manifest.",
        epilog="Options and their defaults are in pipeline/conf/dataset/<dataset>.yaml. Known "
        "datasets: " + ", ".join(catalog.list_datasets()),
    )
    parser.add_argument("dataset", help="name of the dataset")
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="option=value",
        help="options of the dataset, and cluster.num_workers=2 and the like, which change nothing "
        "but where images are decoded",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="write nothing: read all shards that are there, and check their sums and content",
    )
    arguments = parser.parse_args()
    of_cluster = [one for one in arguments.overrides if one.startswith(("cluster=", "cluster."))]
    options = [one for one in arguments.overrides if one not in of_cluster]
    config = catalog.load_config(arguments.dataset, options)
    if arguments.check:
        manifest = shard_reader.verify(paths.shards(arguments.dataset))
        rows = ", ".join(f"{split} {info.rows:,}" for split, info in manifest.splits.items())
        print(f"{arguments.dataset}: whole, rows: {rows}")
        return
    cluster = groups.load_cluster(of_cluster)
    with distributed_decoding.decoding_on_workers(cluster, arguments.dataset):
        preprocessing.preprocess(catalog.get_dataset(config))


if __name__ == "__main__":
    cli.run(main)
