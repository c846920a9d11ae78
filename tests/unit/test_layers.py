"""What import-linter cannot say: the pure part imports the standard library alone."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

MODEL = Path(__file__).parents[2] / "flannel_multi" / "model"


def imported(source: str) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            found.add(node.module or "")
    return found


def test_the_model_imports_the_standard_library_and_itself_alone() -> None:
    files = sorted(MODEL.glob("*.py"))
    assert len(files) > 8
    for file in files:
        strangers = {
            name for name in imported(file.read_text())
            if name.partition(".")[0] not in sys.stdlib_module_names and not name.startswith("flannel_multi.model.")
        }  # fmt: skip
        assert strangers == set(), file.name
