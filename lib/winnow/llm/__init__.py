"""Language models: what they are asked, who answers, and how each answer is kept once.

Example:
    >>> from winnow.llm import TASKS
    >>> sorted(TASKS)[:2]
    ['feature_votes', 'hard_negatives']
    >>> TASKS["tree_labels"].name
    'tree_labels'
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
