"""Ranking architectures, one a file; `winnow.ranking.registry` lists them."""
