"""Benchmarks: isogloss compared with other tools, on the embedded model and real items."""
