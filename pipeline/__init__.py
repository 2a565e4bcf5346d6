"""The machinery around the models: data, training, search, evaluation, reports, registry."""
