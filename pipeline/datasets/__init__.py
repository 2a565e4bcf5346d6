"""One module a dataset: its source, its decoding and its protocol.

Shards, loaders and batches are the room `data`'s.
"""
