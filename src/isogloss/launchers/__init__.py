"""Launchers: the cells of a study on other machines, by an engine that exists."""
