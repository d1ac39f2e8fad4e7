"""The command line: `isogloss NAME`, and the same commands as MLproject's entry points.

Nothing heavy is imported until a command runs, so that `--help` is instant.
"""

import gc

from isogloss.threads import limit_threads

gc.set_threshold(10_000)  # Python's 700 spend an eighth of the imports on looking for garbage
limit_threads()  # before any command's module imports numpy
