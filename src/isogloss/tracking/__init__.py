"""Runs in MLflow: opening, reusing and resuming them."""
