"""What the benchmarks measure ours against, written as one would write it by hand."""
