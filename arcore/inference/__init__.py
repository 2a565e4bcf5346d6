"""What a trained model says of what it is not told: missing or noisy parts, classes, features.

Functions of a model and tensors. Nothing here is trained, and no model knows of them.
"""
