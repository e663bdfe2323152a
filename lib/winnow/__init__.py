"""Recall, rank, rerank: training and serving of recommendation and retrieval."""

__version__ = "0.2.0"
