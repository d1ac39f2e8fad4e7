"""Prompts, their wording in each language, and the parser of generated answers."""
