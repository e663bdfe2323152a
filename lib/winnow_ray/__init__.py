"""Winnow on Ray."""
