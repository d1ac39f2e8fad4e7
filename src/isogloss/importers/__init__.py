"""Importers: results of other tools, read and validated, one module per format."""
