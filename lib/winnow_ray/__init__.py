"""Winnow on Ray: what the jobs submit, as functions that a notebook calls.

Each function takes the config of its job, writes an artifact and returns the figures that the
artifact's manifest records. What is already there, made from the same inputs and config, is left
as it is; a run that was killed continues.

Example:
    >>> import tempfile
    >>> from winnow.data.readers.simulate import SimulateConfig
    >>> from winnow_ray import PrepareConfig, prepare
    >>> small = SimulateConfig(num_users=50, num_items=40, views_per_user=20)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     config = PrepareConfig(reader="simulate", simulate=small, output=f"{folder}/dataset")
    ...     figures = prepare(config)
    >>> figures["rows"]
    1000
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
