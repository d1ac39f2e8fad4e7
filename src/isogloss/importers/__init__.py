"""Results of other tools, read and checked: what they say of each answer, and nothing more."""
