"""Recall: from the whole catalogue to a few hundred candidates.

Example:
    >>> import numpy as np
    >>> from winnow.retrieval import ItemIndex
    >>> index = ItemIndex.build(np.eye(3, dtype=np.float32), "flat")
    >>> index.search(np.array([[0.1, 0.9, 0.3]], np.float32), 2)[1]
    array([[1, 2]])
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
