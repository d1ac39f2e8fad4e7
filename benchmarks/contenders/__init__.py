"""The contenders: one script per tool; each measurement has its own process."""
