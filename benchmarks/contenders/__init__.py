"""The contenders: one script a tool, each run in a process of its own."""
