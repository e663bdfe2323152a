"""The stage graph without Ray: recall, rank, rerank as plain callables over a batch.

    request.py lookup.py answer.py   a request, what is known of its user, and the whole answer
    context.py                       the context of a request, encoded
    query.py                         a resolved request, its candidates, what became of them
    recall.py rank.py rerank.py      the stages, `stage(queries, candidates) -> candidates`
    nearest.py popular.py            where recall looks
    fallbacks.py                     what stands in for a stage that cannot answer in time
    clock.py                         how long a stage usually takes
    probes.py                        requests with known answers, asked before a bundle serves
    graph.py                         `Cascade`: the three in one process, under deadlines

Serving deploys either `Cascade` or one deployment a stage, with the same classes and therefore
the same answers.
"""

from winnow.cascade.clock import StageClock
from winnow.cascade.fallbacks import Fallbacks
from winnow.cascade.graph import STAGES, Cascade
from winnow.cascade.rank import Rank
from winnow.cascade.recall import Recall
from winnow.cascade.rerank import Rerank

__all__ = ["STAGES", "Cascade", "Fallbacks", "Rank", "Recall", "Rerank", "StageClock"]
