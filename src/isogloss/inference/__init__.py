"""Inference: scoring, generation, predictions and context windows of a loaded model."""
