"""Parametrised blocks of networks, with their steps for decoding.

They know no model.
"""
