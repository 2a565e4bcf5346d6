"""One module a dataset: its source, its decoding and its protocol, in rooms by what it holds.

Shards, loaders and batches are the room `data`'s.
"""
