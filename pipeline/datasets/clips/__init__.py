"""Clips of moving digits, of pushing arms and of a game, drawn, read, simulated or played."""
