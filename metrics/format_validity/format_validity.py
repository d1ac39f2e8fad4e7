"""Share of generated answers that choose an option, as `evaluate.load` reads it from a folder.

The class is isogloss's, which must be installed.
"""

from isogloss.predictions.evaluate_metrics import FormatValidity

__all__ = ["FormatValidity"]
