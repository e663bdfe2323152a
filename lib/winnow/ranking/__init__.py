"""Stage two: the chance that a user clicks each candidate, scenario by scenario.

Example:
    >>> from winnow.ranking import MODELS, ModelSpec, Ranker
    >>> sorted(MODELS)[:3]
    ['ada_sparse', 'adapt_dhm', 'ep_net']
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
