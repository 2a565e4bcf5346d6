"""Distributions that torch.distributions lacks, and draws from all of them.

They know levels and reals, not events, layers or models.
"""
