"""Stand-ins for datasets that are not at hand, downloaded, simulated or played."""
