"""Records, pictures and tables of `results/`, README and docs. Nothing here is measured."""
