"""Raw files to Parquet shards to batches.

What a dataset is stands in `datasets`; nothing here knows a model.
"""
