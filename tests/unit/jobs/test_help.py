"""`--help` of every job: its presets with what they are for, and every field with its text."""

import importlib
import re
from dataclasses import dataclass, field, fields, is_dataclass
from functools import partial
from typing import Literal

import pytest

from tests.paths import ROOT
from winnow.config import job_main
from winnow.config_help import presets_and_fields, wrapped

JOBS = sorted(path.stem for path in (ROOT / "jobs").glob("*.py") if path.stem[0] != "_")
COLUMNS = 80


def paths(config, at="") -> set[str]:
    """Dotted names of all fields."""
    found = set()
    for each in fields(config):
        value = getattr(config, each.name)
        found |= {f"{at}{each.name}"}
        if is_dataclass(value):
            found |= paths(value, f"{at}{each.name}.")
        if isinstance(value, dict):
            found |= {f"{at}{each.name}.{name}" for name in value}
    return found


@pytest.mark.parametrize("name", JOBS)
def test_help_names_every_field_and_preset(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(COLUMNS))
    job = importlib.import_module(f"jobs.{name}")
    with pytest.raises(SystemExit) as stopped:
        job.main(["--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    head, _, described = text.partition("\nfields, for --set, with their values in the preset ")
    chosen, _, described = described.partition(":\n")
    named = re.findall(r"^  (\S+)(?: =|:)", described, re.M)
    assert set(named) == paths(job.PRESETS[chosen]())
    presets = re.findall(r"^  (\w+)", head.partition("\npresets, for --config:\n")[2], re.M)
    assert presets == list(job.PRESETS)
    assert f"-m jobs.{name}" in head  # an example stands at the top
    assert max(map(len, text.splitlines())) <= COLUMNS


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """How steps are taken."""

    lr: float = 0.1
    """Learning rate."""


@dataclass(frozen=True, kw_only=True)
class Base:
    steps: int = 10
    """Optimizer steps;
    0 trains nothing."""
    bare: str = ""
    optimizer: Optimizer = field(default_factory=Optimizer)
    """The optimizer."""


@dataclass(frozen=True, kw_only=True)
class Train(Base):
    steps: int = 20
    """Steps of this one."""
    split: Literal["random", "temporal"] = "random"
    hidden: tuple[int, ...] = (64, 32)
    limit: int | None = None
    shuffle: bool = True


def tiny(**given):
    """For tests. Nothing else."""
    return Train(**given)


def without():
    return Train()


def described(presets, default=None) -> str:
    return presets_and_fields(presets, default)


def test_presets_say_what_they_are_for():
    presets = {"tiny": tiny, "few": partial(tiny, steps=3), "without": without, "bare": Train}
    text = described(
        presets | {"anonymous": lambda: Train(), "a_name_of_some_thirty_characters": tiny}
    )
    assert re.findall(r"^  (\w+) +(\S.*)$", text.partition("\n\n")[0], re.M) == [
        ("tiny", "For tests."),
        ("few", "For tests."),
    ]
    assert "\n  without\n  bare\n  anonymous\n" in text
    assert "\n  a_name_of_some_thirty_characters\n                      For tests.\n" in text


def test_values_are_those_of_the_default_preset():
    presets = {"tiny": tiny, "few": partial(tiny, steps=3)}
    assert "preset tiny:\n  steps = 20  (int)\n      Steps of this one.\n" in described(presets)
    assert "preset few:\n  steps = 3  (int)\n" in described(presets, "few")


def test_a_field_has_its_text_type_and_value():
    text = described({"tiny": tiny})
    for shown in (
        "  bare = ''  (text)\n",
        "  optimizer: Optimizer\n      The optimizer.\n  optimizer.lr = 0.1  (float)\n",
        "      Learning rate.\n  split = random  (random | temporal)\n",
        "  hidden = 64, 32  (int, ...)\n",
        "  limit = none  (int | none)\n",
        "  shuffle = true  (true | false)",
    ):
        assert shown in text


def test_an_inherited_field_has_the_text_of_its_class():
    text = described({"base": Base})
    assert "  steps = 10  (int)\n      Optimizer steps; 0 trains nothing.\n" in text


def test_a_class_without_source_has_fields_without_texts():
    names = {"dataclass": dataclass}
    exec("@dataclass\nclass Typed:\n    lr: float = .1\n    '''Rate.'''", names)
    assert described({"typed": names["Typed"]}).endswith("  lr = 0.1  (float)")


def test_commands_are_kept_and_continued():
    command = f"    python -m jobs.train --set {'a' * 50}=1    b=2"
    assert wrapped(f"Train\na model.\n\n{command}\n    echo\n") == (
        f"Train a model.\n\n    python -m jobs.train --set \\\n        {'a' * 50}=1 b=2\n    echo"
    )


def test_a_job_without_docstring_has_help(capsys):
    with pytest.raises(SystemExit):
        job_main(lambda config: {}, {"tiny": tiny}, None, ["--help"], default="tiny")
    assert "default: tiny" in capsys.readouterr().out
