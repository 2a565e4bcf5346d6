"""MLflow's registry of models: registering, the exported form, and the script that loads it.

Nothing here is measured, and no run of a training is made but to rebuild a lost one.
"""
