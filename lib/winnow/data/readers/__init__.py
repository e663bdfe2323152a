"""Raw files as their publishers distribute them, one module a data set."""
