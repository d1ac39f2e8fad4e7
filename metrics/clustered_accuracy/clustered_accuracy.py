"""Accuracy with a standard error clustered by passage, as `evaluate.load` reads it from a folder.

The class is isogloss's, which must be installed.
"""

from isogloss.predictions.evaluate_metrics import ClusteredAccuracy

__all__ = ["ClusteredAccuracy"]
