"""What every package is built on: errors, paths, records, storage, hashes of code.

It knows nothing of data, models or experiments.
"""
