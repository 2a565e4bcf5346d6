"""Searches of hyperparameters with Ray Tune: the space, the trials, their outcome.

A trial is trained by the package `training`.
"""
