"""Adapters as logged models and registered versions, with model cards."""
