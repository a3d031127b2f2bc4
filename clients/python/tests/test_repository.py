"""The package against the rest of the repository, so that they cannot drift apart."""

from __future__ import annotations

import ast
import re
import unittest
from pathlib import Path

import vwatch
from vwatch._codes import STATUS_OF

ROOT = Path(__file__).resolve().parents[3]
PACKAGE = ROOT / "clients/python"
#: Most columns of a line.
LONGEST_LINE = 120


def read(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


class Repository(unittest.TestCase):
    def test_the_codes_are_those_of_the_reference(self) -> None:
        rows = re.findall(r"^\| `([a-z-]+)` \| (\d{3}) \|", read("docs/reference/errors.md"), re.MULTILINE)
        self.assertEqual({code: int(status) for code, status in rows}, STATUS_OF)

    def test_the_version_is_the_same_everywhere(self) -> None:
        for path in ("clients/python/pyproject.toml", "Cargo.toml"):
            found = re.search(r'^version = "(.*)"$', read(path), re.MULTILINE)
            assert found, path
            self.assertEqual(found[1], vwatch.__version__, path)

    def test_what_is_shown_uses_names_that_exist(self) -> None:
        shown = re.findall(r"```python\n(.*?)```", read("clients/python/README.md"), re.DOTALL)
        shown += [block for block in re.findall(r"```python\n(.*?)```", read("docs/guides/client.md"), re.DOTALL)
                  if "from vwatch import" in block]
        self.assertEqual(len(shown), 7)
        flags = ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        for block in shown:
            tree = compile(block, "shown", "exec", flags)
            for node in ast.walk(tree):
                if isinstance(node, ast.ImportFrom):
                    for name in node.names:
                        self.assertIn(name.name, vwatch.__all__)
                elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                    kinds = {"client": vwatch.Client, "cache": vwatch.Cache, "watcher": vwatch.Watcher}
                    kinds["lease"] = vwatch.Lease
                    kind = kinds.get(node.value.id)
                    self.assertTrue(kind is None or hasattr(kind, node.attr), f"{node.value.id}.{node.attr}")

    def test_both_clients_have_the_same_methods(self) -> None:
        def public(kind: type) -> set[str]:
            return {name for name in vars(kind) if not name.startswith("_")}

        self.assertEqual(public(vwatch.Client), public(vwatch.AsyncClient))
        self.assertEqual(public(vwatch.Watcher), public(vwatch.AsyncWatcher))
        self.assertEqual(public(vwatch.Cache), public(vwatch.AsyncCache))
        self.assertEqual(public(vwatch.Lease), public(vwatch.AsyncLease))

    def test_lines_are_short_enough(self) -> None:
        files = [*PACKAGE.glob("vwatch/*.py"), *PACKAGE.glob("tests/*.py")]
        self.assertGreater(len(files), 30)
        for path in files:
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                self.assertLessEqual(len(line), LONGEST_LINE, f"{path.name}:{number}")
