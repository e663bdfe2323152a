"""Trains the ranker of `jobs.train_ranker` on one or two workers, with a stop at two epochs.

    python -m tests.ray.training.elastic_driver <dataset> <output> <folder of marks>

Each stop lasts until Ray Train replaces the workers, so that the test and not the clock says
when the cluster changes. A mark, `<epoch>-<workers>`, tells that the stop is reached.
"""

import json
import sys
import time
from dataclasses import replace
from pathlib import Path

from jobs import train_ranker
from winnow_ray.training import ranker

STOPS = {(2, 1), (4, 2)}
"""Epoch and number of workers."""


def stopping_loop(loop):
    """`train_loop`, on a worker that stops."""
    import ray.train

    workers = ray.train.get_context().get_world_size()

    class StoppingReporter(ranker.Reporter):
        def __call__(self, metrics, save):
            super().__call__(metrics, save)
            stop = (metrics["epoch"], workers)
            if stop in STOPS:
                Path(loop["marks"], f"{stop[0]}-{workers}").touch()
                while True:
                    time.sleep(0.1)

    ranker.Reporter = StoppingReporter
    return ranker.train_loop(loop)


def main(dataset, output, marks):
    fit = ranker.fit
    ranker.fit = lambda _, loop, *args, **more: fit(
        stopping_loop, {**loop, "marks": marks}, *args, **more
    )
    config = replace(train_ranker.tiny(), dataset=dataset, output=output, num_workers=(1, 2))
    print(json.dumps(train_ranker.run(replace(config, epochs=6, patience=6))))


if __name__ == "__main__":
    main(*sys.argv[1:])
