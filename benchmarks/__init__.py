"""Benchmarks: isogloss beside other tools, on the embedded model and real items."""
