"""A load for an endpoint: planned, sent by a process of its own, and measured."""
