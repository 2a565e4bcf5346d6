"""Training with Ray Train: the driver, the worker, its session and its checkpoints.

What a search tries and how a model is judged is decided above.
"""
