"""Mining hard negatives, and the study of their kinds."""
