"""Serving: a fine-tuned adapter on its base model answers questions, without MLflow."""
