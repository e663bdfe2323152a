"""Who answers: the contract of an engine, the engines, and when each tries again."""
