"""MLflow's registry of models: registering, the exported form, and the script that loads it."""
