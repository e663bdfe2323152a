"""Frozen dataclasses as configuration: presets, `--set` overrides and the job command line.

A job is a function `run(config) -> result` and a table of presets. `job_main` turns both into a
command that prints the resolved config as the first line of standard output and the result as the
last, both as JSON. Everything else goes to standard error:

    python -m jobs.train_ranker --config tiny --set model=star optimizer.lr=0.003

`--config` also takes the path of a preset file, such as a search writes: JSON with `config`, the
preset it starts from, and `set`, a list of overrides.
"""

import argparse
import json
import logging
import math
import sys
import traceback
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from winnow.config_help import presets_and_fields, wrapped
from winnow.errors import WinnowError, suggestion
from winnow.secrets import MaskingFormatter, masked

C = TypeVar("C")


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces, so that equal values give equal text to hash."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def json_text(value: Any, *, indent: int | None = None) -> str:
    """Valid JSON, for results and files: a float that is not finite becomes null.

    Python's own "NaN" and "Infinity" are no JSON; other readers refuse a file that has one.

    Example:
        >>> json_text({"auc": math.nan, "loss": (0.5, math.inf)})
        '{"auc": null, "loss": [0.5, null]}'
    """
    return json.dumps(_finite_or_null(value), indent=indent, allow_nan=False)


def _finite_or_null(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite_or_null(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite_or_null(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def check_finite(config: Any) -> None:
    """Raise ValueError if a number of a dataclass is not finite, with the name of its field.

    Comparisons such as `lr <= 0` let NaN pass.
    """
    for field in fields(config):
        value = getattr(config, field.name)
        numbers = value if isinstance(value, tuple) else (value,)
        if any(isinstance(one, float) and not math.isfinite(one) for one in numbers):
            name = f"{type(config).__name__}.{field.name}"
            raise ValueError(f"{name} must be a finite number, got {value}")


def with_overrides(config: C, assignments: Sequence[str]) -> C:
    """A copy of `config` with every dotted `field=value` applied; the last one of a field wins.

    A value must have the declared type of its field. Text needs no quotes. All values are replaced
    at once before `__post_init__` runs again, so fields that limit each other can be set in any
    order.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True, kw_only=True)
        ... class Train:
        ...     lr: float = 0.1
        ...     model: str = "star"
        >>> with_overrides(Train(), ["lr=1", "model=mmoe"])
        Train(lr=1.0, model='mmoe')
    """
    changes: dict[str, Any] = {}
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals:
            raise ValueError(f"--set takes FIELD=VALUE, got {assignment!r}")
        *parents, name = path.split(".")
        group = changes
        for parent in parents:
            group = group.setdefault(parent, {})
            if not isinstance(group, dict):
                raise ValueError(f"--set {path}: {parent} is set as a whole too")
        group[name] = text
    return _replaced(config, changes, "")


def differences(base: Any, changed: Any) -> list[str]:
    """The assignments with which `with_overrides` turns `base` into `changed`, of the same type.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True, kw_only=True)
        ... class Train:
        ...     lr: float = 0.1
        ...     hidden: tuple[int, ...] = (8,)
        >>> differences(Train(), Train(hidden=(64, 32)))
        ['hidden=64,32']
    """
    found = []
    for field in fields(base):
        old, new = getattr(base, field.name), getattr(changed, field.name)
        if is_dataclass(old) and type(old) is type(new):
            found += [f"{field.name}.{rest}" for rest in differences(old, new)]
        elif isinstance(old, dict):
            shown = {name: v if isinstance(v, str) else json.dumps(v) for name, v in new.items()}
            changed_names = [name for name in new if name not in old or new[name] != old[name]]
            found += [f"{field.name}.{name}={shown[name]}" for name in changed_names]
        elif old != new:
            text = ",".join(map(str, new)) if isinstance(new, tuple) else str(new)
            found.append(f"{field.name}={text}")
    return found


def _replaced(config: C, changes: Mapping[str, Any], at: str) -> C:
    """`config` with the texts in `changes` parsed into its fields; a mapping changes a nested
    config."""
    if isinstance(config, dict):
        return type(config)({**config, **_new_entries(config, changes, at)})
    if not is_dataclass(config) or isinstance(config, type):
        path = f"{at}{next(iter(changes))}"
        raise ValueError(f"--set {path}: {type(config).__name__} has no fields to set")
    known = [f.name for f in fields(config)]
    _check_known(changes, known, f"{type(config).__name__} has no field")
    new = {
        name: _parse(change, get_type_hints(type(config))[name], f"{at}{name}")
        for name, change in changes.items()
        if not isinstance(change, Mapping)
    }
    for name, change in changes.items():
        if isinstance(change, Mapping):
            nested = _nested(config, name, new)
            if _takes_any(get_type_hints(type(config))[name]):
                new[name] = {**nested, **_any_entries(change, f"{at}{name}.")}
            else:
                new[name] = _replaced(nested, change, f"{at}{name}.")
    return replace(config, **new)


def _takes_any(wanted: Any) -> bool:
    """Whether a field is a mapping of any names to any values, such as another library's."""
    return get_origin(wanted) is Mapping and get_args(wanted) == (str, Any)


def _any_entries(changes: Mapping[str, Any], at: str) -> dict[str, Any]:
    """Texts as the values that they are in JSON; what is no JSON stays text."""
    new: dict[str, Any] = {}
    for name, change in changes.items():
        if isinstance(change, Mapping):
            raise ValueError(f"--set {at}{name}: give a group as JSON, {at}{name}={{...}}")
        try:
            new[name] = json.loads(change)
        except (ValueError, RecursionError):
            new[name] = change
    return new


def _new_entries(entries: Mapping[str, Any], changes: Mapping[str, Any], at: str) -> dict[str, Any]:
    """Texts parsed as new values of keys that a mapping has; each value keeps its type."""
    _check_known(changes, list(entries), f"{at[:-1]} has no entry")
    new = {}
    for name, change in changes.items():
        if isinstance(change, Mapping):
            raise ValueError(f"--set {at}{name}.{next(iter(change))}: {at}{name} has no fields")
        new[name] = _parse(change, type(entries[name]), f"{at}{name}")
    return new


def _check_known(names: Iterable[str], known: Sequence[str], problem: str) -> None:
    for name in names:
        if name not in known:
            raise ValueError(f"{problem} {name!r}; {suggestion(name, known, otherwise='it has')}")


def _nested(config: Any, name: str, new: Mapping[str, Any]) -> Any:
    """The nested dataclass to change: the present one, unless new values of other fields change its
    type, as the name of a model changes the architecture."""
    present = getattr(config, name)
    try:
        then = getattr(replace(config, **new), name)
    except ValueError:  # fields that limit each other are checked once all are replaced
        return present
    return present if type(then) is type(present) else then


def _parse(text: str, wanted: Any, path: str) -> Any:
    """`text` as a value of the annotated type `wanted`; ValueError names the field otherwise."""
    origin = get_origin(wanted)
    if origin in (Union, types.UnionType):
        return _parse_union(text, get_args(wanted), path)
    if origin is Literal:
        choices = {str(choice): choice for choice in get_args(wanted)}
        if text not in choices:
            raise ValueError(f"{path} must be one of {', '.join(choices)}, got {text!r}")
        return choices[text]
    if wanted is str:
        return text
    if wanted is bool:
        lowered = text.lower()
        if lowered not in ("true", "false"):
            raise ValueError(f"{path} must be true or false, got {text!r}")
        return lowered == "true"
    if wanted in (int, float):
        try:
            number = wanted(text)
        except ValueError:
            raise ValueError(f"{path} must be {wanted.__name__}, got {text!r}") from None
        if isinstance(number, float) and not math.isfinite(number):
            raise ValueError(f"{path} must be a finite number, got {text!r}")
        return number
    if origin is tuple:
        return _parse_tuple(text, get_args(wanted), path)
    raise ValueError(f"{path} cannot be set from the command line; set its own fields instead")


def _parse_union(text: str, options: tuple[Any, ...], path: str) -> Any:
    if type(None) in options and text.lower() in ("none", "null", ""):
        return None
    reasons = []
    for option in options:
        if option is type(None):
            continue
        try:
            return _parse(text, option, path)
        except ValueError as reason:
            reasons.append(str(reason))
    raise ValueError("; or ".join(reasons))


def _parse_tuple(text: str, items: tuple[Any, ...], path: str) -> tuple[Any, ...]:
    """`(64, 32)`, `64,32` or `a,b`; a fixed-length tuple checks its length."""
    parts = [part.strip(" '\"") for part in text.strip(" ()[]").split(",") if part.strip()]
    if len(items) == 2 and items[1] is Ellipsis:
        return tuple(_parse(part, items[0], path) for part in parts)
    if len(parts) != len(items):
        raise ValueError(f"{path} must have {len(items)} values, got {text!r}")
    return tuple(_parse(part, item, path) for part, item in zip(parts, items, strict=True))


def preset_of(name: str, presets: Mapping[str, Callable[[], C]]) -> C:
    """The config of a preset by name, or of a preset file: JSON with `config` and `set`."""
    if name.endswith(".json"):
        try:
            file = json.loads(Path(name).read_text())
            name, assignments = file["config"], file["set"]
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ValueError(f"--config {name} is no preset file: {error!r}") from error
        return with_overrides(preset_of(name, presets), assignments)
    if name not in presets:
        raise ValueError(f"--config: no preset {name!r}; {suggestion(name, sorted(presets))}")
    return presets[name]()


def _parser(
    presets: Mapping[str, Callable[[], C]], description: str | None, default: str | None
) -> argparse.ArgumentParser:
    class Parser(argparse.ArgumentParser):
        def format_help(self) -> str:  # reads the sources of all configs, only when asked
            return f"{super().format_help()}\n{presets_and_fields(presets, default)}\n"

    parser = Parser(
        description=wrapped(description or ""),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--config",
        required=default is None,
        default=default,
        metavar="PRESET",
        help=f"preset below, or a preset file (.json){f'; default: {default}' if default else ''}",
    )
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="FIELD=VALUE",
        help="new values of fields below",
    )
    return parser


def job_main(
    run: Callable[[C], Mapping[str, Any]],
    presets: Mapping[str, Callable[[], C]],
    description: str | None,
    argv: Sequence[str] | None = None,
    *,
    default: str | None = None,
) -> None:
    """Parse the command line, run the job, print the config first and the result last.

    `default` is the preset of a command without `--config`; None if it must name one. A mistake of
    the user (`WinnowError`, or `ValueError` while parsing) ends with one line and exit status 2,
    without a traceback. Passwords and keys in addresses are masked in all that is printed and
    logged.
    """
    parser = _parser(presets, description, default)
    args = parser.parse_args(argv)
    lines = logging.StreamHandler(sys.stderr)
    lines.setFormatter(
        MaskingFormatter("%(asctime)s %(levelname).1s %(name)s: %(message)s", "%H:%M:%S")
    )
    logging.basicConfig(handlers=[lines])
    sys.excepthook = _print_masked
    logging.getLogger("winnow").setLevel(logging.INFO)  # other libraries: warnings only
    try:
        config = with_overrides(preset_of(args.config, presets), args.set)
    except ValueError as error:
        parser.error(masked(str(error)))
    print(masked(json_text(asdict(config))), flush=True)  # type: ignore[call-overload]
    try:
        result = run(config)
    except WinnowError as error:
        print(masked(f"{parser.prog}: {error}"), file=sys.stderr)
        raise SystemExit(2) from error
    print(masked(json_text(result)), flush=True)


def _print_masked(*error: Any) -> None:
    """Print the traceback of an uncaught error, as the interpreter does."""
    print(masked("".join(traceback.format_exception(*error))), end="", file=sys.stderr)
