"""Raw files as their publishers distribute them: one module per data set, named in `registry`."""
