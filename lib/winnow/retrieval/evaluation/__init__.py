"""How good a ranking of documents is, and whether a difference is real."""
