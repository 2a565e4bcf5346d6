"""The machinery around the models, in rooms; docs/architecture.md draws them."""
