"""One module per entry point of MLproject, run as `python -m entrypoints.NAME`.

isogloss need not be installed: the modules find it in src/, in whatever environment MLflow made.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))
