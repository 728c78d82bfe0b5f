"""Router, dashboard, delivery, operation and their verbs read no received file themselves: confined processes do."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOMS = ("routing", "web", "deliver", "operate", "cli", "doctor")
OPENERS = {
    ("pydicom", "dcmread"),
    ("node.studies.header", "read_header"),
    ("node.studies.source", "SourceSeries"),
    ("node.studies.attributes", "attributes"),
    ("node.studies.attributes", "study_attributes"),
    ("node.studies.attributes", "contradictory"),
}
"""What opens a DICOM file in the process that calls it."""
Unit = tuple[str, str]
"""Module, and a function or class of it."""


def uses(root: Path) -> tuple[dict[Unit, set[Unit]], set[Unit]]:
    """What each function and class of the rooms uses, and what is given to the ``call`` of a confined process."""
    used: dict[Unit, set[Unit]] = {}
    confined: set[Unit] = set()
    for path in sorted(path for room in ROOMS for path in (root / "node" / room).rglob("*.py")):
        module = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
        tree = ast.parse(path.read_text(encoding="utf-8"))
        known = {node.name: (module, node.name) for node in tree.body if hasattr(node, "name")}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                known |= {alias.asname or alias.name: (node.module or "", alias.name) for alias in node.names}
        for node in tree.body:
            unit = (module, getattr(node, "name", "(module)"))
            confined.update(names(node, known, confined=True))
            used.setdefault(unit, set()).update(set(names(node, known, confined=False)) - {unit})
    return used, confined


def names(node: ast.AST, known: dict[str, Unit], *, confined: bool) -> Iterator[Unit]:
    """Known names below a node, without annotations; ``confined``: only those given to a ``call``, else all others."""
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.Call) and isinstance(child.func, ast.Attribute) and child.func.attr == "call":
                if confined:
                    yield from (
                        known[argument.id]
                        for argument in child.args
                        if isinstance(argument, ast.Name) and argument.id in known
                    )
                for argument in child.args:
                    yield from names(argument, known, confined=confined)
            elif isinstance(child, ast.Name) and child.id in known and not confined:
                yield known[child.id]
            elif isinstance(child, ast.Attribute) and isinstance(child.value, ast.Name) and not confined:
                module, name = known.get(child.value.id, ("", ""))
                yield from ((module, name), (f"{module}.{name}", child.attr))
            elif isinstance(child, ast.AST):
                yield from names(child, known, confined=confined)


def unconfined(root: Path) -> set[Unit]:
    """Functions and classes that read a file in the process of their caller, and are called outside confined ones."""
    used, confined = uses(root)
    reading: set[Unit] = set()
    while more := {unit for unit, of_unit in used.items() if of_unit & (OPENERS | reading)} - reading:
        reading |= more
    allowed, queue = set[Unit](), list(confined)
    while queue:  # what a confined function uses is confined as well
        unit = queue.pop()
        if unit not in allowed:
            allowed.add(unit)
            queue += used.get(unit, ())
    callers = {unit for unit, of_unit in used.items() if of_unit & reading and unit not in allowed}
    return (reading - allowed) | callers


def test_received_files_are_opened_in_confined_processes_only():
    assert unconfined(ROOT) == set()


def test_a_reader_that_is_called_directly_is_found(tmp_path: Path):
    folder = tmp_path / "node" / "web"
    folder.mkdir(parents=True)
    (folder / "reading.py").write_text(
        "from node.studies.header import read_header\n\n\ndef view(path):\n    return title(path)\n\n\n"
        "def title(path) -> str:\n    return read_header(path).StudyDescription\n"
    )
    (folder / "page.py").write_text(
        "from node.web import reading\nfrom node.web.reading import view\n\n\n"
        "def confined(context, path):\n    return context.reader.call('a', view, path)\n"
    )
    assert unconfined(tmp_path) == set()
    direct = "\n\ndef direct(path):\n    return view(path)\n\n\ndef by_module(path):\n    return reading.title(path)\n"
    page = folder / "page.py"
    page.write_text(page.read_text() + direct)
    assert unconfined(tmp_path) == {("node.web.page", "direct"), ("node.web.page", "by_module")}
