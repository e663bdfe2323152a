"""From a raw log to a dataset: spooled, split, encoded, written in part files."""
