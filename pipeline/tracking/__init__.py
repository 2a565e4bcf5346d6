"""MLflow runs: the store, and runs as projections of histories and records.

The registry of models is a package of its own.
"""
