"""What every room stands on: errors, paths, atomic writes, provenance, stores.

It knows nothing of data, models or experiments.
"""
