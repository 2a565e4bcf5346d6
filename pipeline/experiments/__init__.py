"""Typed configurations of experiments, and their composition with Hydra.

Nothing here trains or reads data.
"""
