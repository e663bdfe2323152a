"""Contrastive training of a text encoder on a collection."""
