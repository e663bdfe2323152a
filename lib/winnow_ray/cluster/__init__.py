"""Joining or starting a Ray cluster, ports, and paths that every worker understands."""
