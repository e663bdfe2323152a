"""Offline work for a language model: prompts, content keys, answers, tasks and a tiny model."""
