"""One module per dataset: its source, its decoding and its protocol, in packages by what it holds.

Shards, loaders and batches are in the package `data`.
"""
