"""Retrievers and rerankers measured on held-out rows."""
