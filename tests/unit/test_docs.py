"""Docstrings that read without their code, and configs whose every field has one.

The rules are in lib/winnow/README.md, "How docstrings are written".
"""

import ast
import re

import pytest

from tests.paths import ROOT

FOLDERS = ("lib", "jobs", "serve")
FILES = {
    str(path.relative_to(ROOT)): path
    for folder in FOLDERS
    for path in sorted((ROOT / folder).rglob("*.py"))
}
UNREADABLE = re.compile(r"(Of|And|That|Whose|Which|As above|Likewise|The same)\b|\(")
"""Beginnings that lean on the code above the text."""


def texts(tree: ast.Module) -> list[tuple[int, str]]:
    """Line and content of every docstring, those below fields and constants too."""
    return [
        (node.lineno, node.value.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    ]


@pytest.mark.parametrize("name", FILES)
def test_docstrings_read_without_their_code(name):
    tree = ast.parse(FILES[name].read_text())
    wrong = [f"{name}:{line}: {text[:60]}" for line, text in texts(tree) if UNREADABLE.match(text)]
    assert not wrong, "\n".join(wrong)


def undocumented(node: ast.ClassDef) -> list[str]:
    """Fields of a class without a text below."""
    following = [*node.body[1:], ast.Pass()]
    return [
        field.target.id
        for field, text in zip(node.body, following, strict=True)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and not (isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant))
    ]


@pytest.mark.parametrize("name", FILES)
def test_every_field_of_a_config_is_documented(name):
    for node in ast.walk(ast.parse(FILES[name].read_text())):
        if isinstance(node, ast.ClassDef) and node.name.endswith("Config"):
            missing = undocumented(node)
            assert not missing, f"{name}: {node.name} does not say what {missing} are"


@pytest.mark.parametrize("name", FILES)
def test_every_module_says_what_it_is(name):
    tree = ast.parse(FILES[name].read_text())
    assert not tree.body or ast.get_docstring(tree), f"{name} has no docstring"
