"""What a loaded model answers: scoring, generation, predictions, context window."""
