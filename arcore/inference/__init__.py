"""What a trained model infers: missing or noisy parts, classes, features.

Functions of a model and tensors. Nothing here is trained, and no model knows of them.
"""
