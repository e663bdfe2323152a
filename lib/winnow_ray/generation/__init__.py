"""Batch generation on Ray Data: workers that each hold an engine."""
