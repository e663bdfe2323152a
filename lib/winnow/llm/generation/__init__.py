"""A run of many requests: planned, answered, stored once each, written as an artifact."""
