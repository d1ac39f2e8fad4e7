"""Models: where they are, how they are loaded, adapters, and exact fast forward passes."""
