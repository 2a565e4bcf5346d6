"""MLflow runs: the store, and a logger that an outage does not stop.

The registry of models is a package of its own.
"""
