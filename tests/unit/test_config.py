import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from hypothesis import given, strategies as st

from winnow.config import (
    canonical_json,
    check_finite,
    differences,
    job_main,
    json_text,
    with_overrides,
)
from winnow.errors import DataError


@dataclass(frozen=True, kw_only=True, slots=True)
class Optimizer:
    lr: float = 0.1

    def __post_init__(self) -> None:
        if self.lr <= 0:
            raise ValueError(f"Optimizer.lr must be positive, got {self.lr}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Engine:
    args: Mapping[str, Any] = field(default_factory=dict)


def test_a_mapping_of_any_values_takes_any_names_with_json_or_text():
    given = ["args.size=32", "args.eager=true", "args.kind=fp8", 'args.more={"a": [1]}']
    engine = with_overrides(Engine(args={"size": 8, "kept": 1}), given)
    assert engine.args == {
        "size": 32,
        "kept": 1,
        "eager": True,
        "kind": "fp8",
        "more": {"a": [1]},
    }
    assert with_overrides(Engine(), differences(Engine(), engine)) == engine
    with pytest.raises(ValueError, match=r"args.more: give a group as JSON, args.more=\{"):
        with_overrides(Engine(), ["args.more.a=1"])


@dataclass(frozen=True, kw_only=True, slots=True)
class Train:
    model: str = "star"
    steps: int = 10
    shuffle: bool = True
    split: Literal["random", "temporal"] = "random"
    fold: Literal[1, 2] = 1
    hidden: tuple[int, ...] = (64,)
    rates: tuple[float, float] = (0.9, 0.99)
    names: tuple[str, ...] = ()
    limit: int | None = None
    optimizer: Optimizer = field(default_factory=Optimizer)
    rows_of: dict[str, int] = field(default_factory=lambda: {"train": 8, "test": 2})


@pytest.mark.parametrize(
    ("assignment", "name", "value"),
    [
        ("model=mmoe", "model", "mmoe"),
        ("model=a=b", "model", "a=b"),
        ("model=", "model", ""),
        ("model=12", "model", "12"),
        ("model=None", "model", "None"),
        ("steps=-3", "steps", -3),
        ("shuffle=false", "shuffle", False),
        ("shuffle=True", "shuffle", True),
        ("split=temporal", "split", "temporal"),
        ("fold=2", "fold", 2),
        ("hidden=(64, 32)", "hidden", (64, 32)),
        ("hidden=64,32", "hidden", (64, 32)),
        ("hidden=[8]", "hidden", (8,)),
        ("hidden=8,", "hidden", (8,)),
        ("hidden=()", "hidden", ()),
        ("rates=1,0.5", "rates", (1.0, 0.5)),
        ("names=a, b", "names", ("a", "b")),
        ("names=('a','b')", "names", ("a", "b")),
        ("names=1.50,1e3,001", "names", ("1.50", "1e3", "001")),
        ("limit=5", "limit", 5),
        ("limit=none", "limit", None),
        ("optimizer.lr=1", "optimizer", Optimizer(lr=1.0)),
        ("rows_of.test=3", "rows_of", {"train": 8, "test": 3}),
    ],
)
def test_a_value_gets_the_declared_type(assignment, name, value):
    changed = getattr(with_overrides(Train(), [assignment]), name)
    assert changed == value
    assert type(changed) is type(value)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("steps", "--set takes FIELD=VALUE, got 'steps'"),
        ("stps=3", "Train has no field 'stps'; did you mean 'steps'?"),
        ("optimizer.lrr=3", "Optimizer has no field 'lrr'; did you mean 'lr'?"),
        ("optimizer.weight_decay=3", "Optimizer has no field 'weight_decay'; it has lr"),
        ("steps.more=3", "--set steps.more: int has no fields to set"),
        ("steps=2.5", "steps must be int, got '2.5'"),
        ("optimizer.lr=fast", "optimizer.lr must be float, got 'fast'"),
        ("optimizer.lr=0", "Optimizer.lr must be positive, got 0.0"),
        ("shuffle=1", "shuffle must be true or false, got '1'"),
        ("split=time", "split must be one of random, temporal, got 'time'"),
        ("hidden=64,x", "hidden must be int, got 'x'"),
        ("rates=0.9", "rates must have 2 values, got '0.9'"),
        ("limit=some", "limit must be int, got 'some'"),
        ("optimizer=adam", "optimizer cannot be set from the command line"),
        ("rows_of.tets=3", "rows_of has no entry 'tets'; did you mean 'test'?"),
        ("rows_of.valid=3", "rows_of has no entry 'valid'; it has train, test"),
        ("rows_of.test=x", "rows_of.test must be int, got 'x'"),
        ("rows_of.test.more=1", "--set rows_of.test.more: rows_of.test has no fields"),
        ("rows_of=3", "rows_of cannot be set from the command line"),
    ],
)
def test_a_mistake_is_named(assignment, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        with_overrides(Train(), [assignment])


def test_overrides_apply_in_order_and_leave_the_original():
    config = Train()
    changed = with_overrides(config, ["steps=1", "optimizer.lr=2", "steps=3"])
    assert (changed.steps, changed.optimizer.lr) == (3, 2.0)
    assert config == Train()


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.lists(st.booleans())))
def test_canonical_json_does_not_depend_on_order(value):
    reordered = dict(reversed(value.items()))
    assert canonical_json(value) == canonical_json(reordered)
    assert json.loads(canonical_json(value)) == value


PRESETS = {"tiny": Train}


def test_a_job_prints_config_first_and_result_last(capsys):
    def run(config):
        print("in between")
        return {"steps": config.steps}

    job_main(
        run,
        PRESETS,
        "Train.",
        ["--config", "tiny", "--set", "steps=3", "model=a", "--set", "limit=1"],
    )
    first, *_, last = capsys.readouterr().out.splitlines()
    assert json.loads(first)["steps"] == 3
    assert json.loads(first)["model"] == "a"
    assert json.loads(first)["limit"] == 1
    assert json.loads(first)["optimizer"] == {"lr": 0.1}
    assert json.loads(last) == {"steps": 3}


def test_differences_lead_from_one_config_to_the_other():
    base = Train()
    changed = with_overrides(
        base, ["steps=3", "optimizer.lr=0.5", "limit=1", "model=a", "rows_of.train=9"]
    )
    assert with_overrides(base, differences(base, changed)) == changed
    assert with_overrides(changed, differences(changed, base)) == base  # None among them
    assert differences(base, base) == []


def test_a_preset_file_is_a_preset_with_overrides(capsys, tmp_path):
    path = tmp_path / "found.json"
    path.write_text(json.dumps({"config": "tiny", "set": ["steps=3", "optimizer.lr=0.5"]}))
    job_main(lambda config: {}, PRESETS, None, ["--config", str(path), "--set", "steps=4"])
    config = json.loads(capsys.readouterr().out.splitlines()[0])
    assert config["steps"] == 4
    assert config["optimizer"] == {"lr": 0.5}


@pytest.mark.parametrize("text", ["{", "[]", '{"config": "tiny"}', '{"config": "x", "set": []}'])
def test_a_broken_preset_file_is_refused(capsys, tmp_path, text):
    path = tmp_path / "broken.json"
    path.write_text(text)
    with pytest.raises(SystemExit):
        job_main(lambda config: {}, PRESETS, None, ["--config", str(path)])
    assert "preset" in capsys.readouterr().err


def test_a_default_preset_needs_no_option(capsys):
    job_main(lambda config: {"steps": config.steps}, PRESETS, None, [], default="tiny")
    assert capsys.readouterr().out


def test_a_users_error_is_one_line_and_status_2(capsys):
    def run(config):
        raise DataError("ratings.dat, line 3: a rating is missing")

    with pytest.raises(SystemExit) as stopped:
        job_main(run, PRESETS, None, ["--config", "tiny"])
    assert stopped.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(": ratings.dat, line 3: a rating is missing")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "required: --config"),
        (["--config", "huge"], "no preset 'huge'; there are tiny"),
        (["--config", "tinny"], "no preset 'tinny'; did you mean 'tiny'?"),
        (["--config", "nowhere.json"], "--config nowhere.json is no preset file: FileNotFound"),
        (["--config", "tiny", "--set", "stps=3"], "did you mean 'steps'?"),
        (["--config", "tiny", "--set", "optimizer.lr=-1"], "Optimizer.lr must be positive"),
    ],
)
def test_a_wrong_command_line_is_status_2_before_anything_runs(capsys, argv, message):
    with pytest.raises(SystemExit) as stopped:
        job_main(lambda config: pytest.fail("ran"), PRESETS, None, argv)
    assert stopped.value.code == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""


def test_a_fault_of_the_program_keeps_its_traceback():
    def run(config):
        raise KeyError("bug")

    with pytest.raises(KeyError, match="bug"):
        job_main(run, PRESETS, None, ["--config", "tiny"])


def test_fields_that_limit_each_other_can_be_set_in_any_order():
    @dataclass(frozen=True, kw_only=True)
    class Range:
        low: int = 1
        high: int = 1

        def __post_init__(self):
            if self.low > self.high:
                raise ValueError("low must not be above high")

    assert with_overrides(Range(), ["low=2", "high=3"]) == Range(low=2, high=3)
    with pytest.raises(ValueError, match="low must not be above high"):
        with_overrides(Range(), ["low=2"])


def test_a_field_is_not_set_as_a_whole_and_in_part():
    with pytest.raises(ValueError, match=r"--set optimizer.lr: optimizer is set as a whole too"):
        with_overrides(Train(), ["optimizer=x", "optimizer.lr=1"])


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e999", "NaN"])
@pytest.mark.parametrize("field", ["optimizer.lr", "rates"])
def test_a_number_that_is_not_finite_is_refused_once_for_all_fields(field, text):
    value = f"0.5,{text}" if field == "rates" else text
    with pytest.raises(ValueError, match=f"{field} must be a finite number, got '{text}'"):
        with_overrides(Train(), [f"{field}={value}"])


def test_a_config_made_in_python_is_checked_too():
    with pytest.raises(ValueError, match=r"Train.rates must be a finite number, got \(0.5, inf\)"):
        check_finite(Train(rates=(0.5, float("inf"))))
    check_finite(Train())


def test_results_are_json_whatever_their_numbers(capsys):
    figures = {"auc": float("nan"), "curve": [{"loss": float("inf")}, (1.5, None)], "text": "NaN"}
    job_main(lambda config: figures, {"tiny": Train}, None, ["--config", "tiny"])
    line = capsys.readouterr().out.splitlines()[-1]
    expected = {"auc": None, "curve": [{"loss": None}, [1.5, None]], "text": "NaN"}
    assert json.loads(line, parse_constant=pytest.fail) == expected
    assert json_text(figures, indent=1).count("\n") > 3
