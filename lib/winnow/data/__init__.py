"""From raw logs to datasets that every job reads."""
