"""Stage preprocess: decode data/raw/<dataset>/ into Parquet shards in data/shards/<dataset>/.

Example: python -m stages.preprocess dna split=as_distributed
"""

import argparse

from stages import cli


def main() -> None:
    """Parse the command line and write the shards."""
    from pipeline.datasets import catalog  # here: a warm process has them
    from pipeline.experiments import groups

    parser = argparse.ArgumentParser(
        prog="python -m stages.preprocess",
        description="Decode a dataset's raw files into Parquet shards and a manifest.",
        epilog="Options and their defaults are in pipeline/conf/dataset/<dataset>.yaml, those "
        "of your own data in local/dataset/<dataset>.yaml. Known "
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
    arguments = parser.parse_args()
    of_cluster = [one for one in arguments.overrides if one.startswith(("cluster=", "cluster."))]
    options = [one for one in arguments.overrides if one not in of_cluster]
    settings = catalog.load_settings(arguments.dataset, options)
    cluster = groups.load_cluster(of_cluster)
    from pipeline.cluster import distributed_decoding  # here: as for fetch
    from pipeline.data import preprocessing

    with distributed_decoding.decoding_on_workers(cluster, arguments.dataset):
        preprocessing.preprocess(catalog.get_dataset(settings))


if __name__ == "__main__":
    cli.run(main)
