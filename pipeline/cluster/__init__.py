"""Ray's connection, jobs on a cluster, and the storage that its hosts share.

It does not know what runs there.
"""
