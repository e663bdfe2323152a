"""Raw files to datasets and collections."""
