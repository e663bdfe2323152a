"""A run of many requests: each is asked, checked, stored once and written into an artifact."""
