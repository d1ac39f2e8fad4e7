"""Predictions per item, the table that stores them, and metrics computed from it."""
