"""Stage two: the chance that a user clicks each candidate, scenario by scenario."""
