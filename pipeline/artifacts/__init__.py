"""Every output: what it is, how it is written, and how it is checked when it is read.

No other package locks, replaces, stamps, seals or publishes a folder.
"""
