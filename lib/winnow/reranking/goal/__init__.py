"""LLM4Rerank: a language model walks a graph of aspects towards a goal."""
