"""The part of a job's `--help` that names its presets and the fields of its config.

Python keeps no docstring of a field, so it is read from the source: the text below the field in the
class that declares it.
"""

import ast
import inspect
import textwrap
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import cache, partial
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

WIDTH = 80
"""Columns of the narrowest usual terminal."""
PRESET_COLUMNS = 20
"""Columns of a preset's name; a longer name is alone on its line."""


def presets_and_fields(presets: Mapping[str, Callable[[], Any]], default: str | None) -> str:
    """What each preset is for, then every field with type, docstring and the value that the
    default preset gives it, or the first preset if there is no default.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True)
        ... class Train:
        ...     steps: int = 10
        >>> print(presets_and_fields({"tiny": Train}, None))
        presets, for --config:
          tiny
        <BLANKLINE>
        fields, for --set, with their values in the preset tiny:
          steps = 10  (int)
    """
    chosen = default or next(iter(presets))
    lines = ["presets, for --config:"]
    for name, preset in presets.items():
        lines += _preset(name, _first_sentence(preset))
    lines += ["", f"fields, for --set, with their values in the preset {chosen}:"]
    lines += _fields(presets[chosen](), "")
    return "\n".join(lines)


def wrapped(text: str) -> str:
    """`text` with its paragraphs filled to WIDTH; indented lines are commands and stay lines.

    Example:
        >>> wrapped("Train\\na ranker.\\n\\n    python -m jobs.train_ranker")
        'Train a ranker.\\n\\n    python -m jobs.train_ranker'
    """
    return "\n\n".join(
        "\n".join(map(_command, paragraph.splitlines()))
        if paragraph.startswith(" ")
        else "\n".join(_filled(paragraph, "", ""))
        for paragraph in text.strip("\n").split("\n\n")
    )


def _command(line: str) -> str:
    """An indented command, continued on further lines where it is wider than WIDTH."""
    if len(line) <= WIDTH:
        return line
    indent = line[: len(line) - len(line.lstrip())]
    pieces = _filled(" ".join(line.split()), indent, f"{indent}    ", width=WIDTH - 2)
    return " \\\n".join(pieces)


def _preset(name: str, purpose: str) -> list[str]:
    head = f"  {name:{PRESET_COLUMNS}}"
    indent = " " * (PRESET_COLUMNS + 2)
    if len(name) < PRESET_COLUMNS or not purpose:
        return _filled(purpose, head, indent) or [head.rstrip()]
    return [head, *_filled(purpose, indent, indent)]


def _first_sentence(preset: Callable[[], Any]) -> str:
    """Beginning of the docstring of a preset's function; empty without one."""
    while isinstance(preset, partial):
        preset = preset.func
    text = " ".join((preset.__doc__ or "").split()) if inspect.isroutine(preset) else ""
    sentence, period, _ = f"{text} ".partition(". ")
    return f"{sentence}{period}".strip()


def _fields(config: Any, at: str) -> Iterator[str]:
    """Lines about every field of `config`, those of a nested config after the field itself."""
    hints = get_type_hints(type(config))
    for field in fields(config):
        value, path = getattr(config, field.name), f"{at}{field.name}"
        nested = is_dataclass(value) or isinstance(value, Mapping)
        about = type(value).__name__ if nested else _kind(hints[field.name])
        yield from _head(f"{path}: {about}" if nested else f"{path} = {_shown(value)}  ({about})")
        yield from _filled(_docstring(type(config), field.name), " " * 6, " " * 6)
        if is_dataclass(value):
            yield from _fields(value, f"{path}.")
        elif isinstance(value, Mapping):
            for name, entry in value.items():
                yield from _head(f"{path}.{name} = {_shown(entry)}  ({_kind(type(entry))})")


def _head(text: str) -> list[str]:
    return _filled(text, "  ", " " * 6)


def _filled(text: str, first: str, others: str, width: int = WIDTH) -> list[str]:
    """Lines of at most `width` columns, indented by `first` and then by `others`."""
    return textwrap.wrap(
        text,
        width,
        initial_indent=first,
        subsequent_indent=others,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _kind(hint: Any) -> str:
    """The values that `--set` takes for a type."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Literal:
        return " | ".join(map(str, args))
    if origin in (Union, types.UnionType):
        return " | ".join(map(_kind, args))
    if origin is tuple:
        return ", ".join("..." if arg is Ellipsis else _kind(arg) for arg in args)
    names = {str: "text", bool: "true | false", types.NoneType: "none"}
    return str(names.get(hint) or getattr(hint, "__name__", hint))


def _shown(value: Any) -> str:
    """A value as `--set` takes it, but for the spaces of a tuple, at which a line can break."""
    if isinstance(value, tuple):
        return ", ".join(map(_shown, value)) or "()"
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return str(value) or "''"


def _docstring(config: type, name: str) -> str:
    """Text below a field in the nearest class that declares it; empty without one."""
    for owner in config.__mro__:
        if name in inspect.get_annotations(owner):
            return _docstrings(owner).get(name, "")
    return ""


@cache
def _docstrings(owner: type) -> dict[str, str]:
    """Texts below the fields that a class declares itself, each on one line, by field."""
    try:
        node = ast.parse(textwrap.dedent(inspect.getsource(owner))).body[0]
    except (OSError, TypeError):  # a class without a source file, such as one typed at a prompt
        return {}
    assert isinstance(node, ast.ClassDef)
    return {
        field.target.id: " ".join(text.value.value.split())
        for field, text in zip(node.body, node.body[1:], strict=False)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }
