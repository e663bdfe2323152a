"""Recall: from the whole catalogue to a few hundred candidates."""
