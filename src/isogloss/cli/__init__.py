"""The command line: `isogloss NAME`, and the same commands as MLproject's entry points.

Nothing heavy is imported until a command runs, so that `--help` is instant.
"""

from isogloss.threads import limit_threads

limit_threads()  # before any command's module imports numpy
