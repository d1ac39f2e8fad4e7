"""The version of the package, and of each component that decides results.

A component's version is in the fingerprint of every result that it decides, so that a result does
not outlive the fix of an error in the code that computed it. Raise it with every change of what the
component computes; `tests/golden` fails if its outputs change without that. PROMPT_VERSION and
PARSER_VERSION are in `isogloss.prompts`.
"""

__version__ = "0.1.0"

PROBE_VERSION = "1"  # texts of the items of the task `probe`
SCORING_VERSION = "2"  # log-likelihoods of choices, and the choice made from them
GENERATION_VERSION = "2"  # generated text
TRAINING_VERSION = "1"  # weights of adapters
METRICS_VERSION = "1"  # metrics of evaluate runs
STATISTICS_VERSION = "10"  # estimates, intervals, p-values and verdicts of comparisons
REPORT_VERSION = "14"  # what the report says about them
