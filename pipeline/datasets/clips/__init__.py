"""Clips of moving digits and of pushing arms, drawn, read or simulated."""
