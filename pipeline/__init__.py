"""The machinery around the models, one package per idea; docs/architecture.md draws them."""
