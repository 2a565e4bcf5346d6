"""Raw files to Parquet shards to batches.

The package `datasets` describes datasets. Nothing here knows a model.
"""
