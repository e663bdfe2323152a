"""Secrets planted in every text that a job takes appear in nothing that it prints."""

import importlib
import sys
from dataclasses import fields, is_dataclass

import pytest

from tests.unit.test_architecture import JOBS
from winnow.config import job_main
from winnow.errors import WinnowError

SECRET = "s3://AKIA:pl4nted@bucket/x?secret_key=pl4nted"


def texts_of(config, at=""):
    """Dotted names of all fields that hold text, or lists of it."""
    for field in fields(config):
        value = getattr(config, field.name)
        if is_dataclass(value):
            yield from texts_of(value, f"{at}{field.name}.")
        elif isinstance(value, str) or value == ():
            yield f"{at}{field.name}"


@pytest.mark.parametrize("name", JOBS)
def test_a_job_prints_no_secret(name, capsys):
    presets = importlib.import_module(f"jobs.{name}").PRESETS
    preset = next(iter(presets))

    def fails(config):
        raise WinnowError(f"cannot read {SECRET} of {config}")

    def crashes(config):
        raise OSError(f"denied: {SECRET} of {config}")

    def ends(config):
        return {"said": str(config), "at": SECRET}

    for field in texts_of(presets[preset]()):
        for run in (fails, crashes, ends):
            argv = ["--config", preset, "--set", f"{field}={SECRET}"]
            try:
                job_main(run, presets, None, argv)
            except SystemExit:
                pass
            except OSError:
                sys.excepthook(*sys.exc_info())
            told = "".join(capsys.readouterr())
            assert told, field
            assert "pl4nted" not in told, (field, run.__name__)
