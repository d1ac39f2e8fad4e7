"""The HTML report: page, tables, figures, style."""
