"""Mutation check of pure modules with mutmut: ``make mutation`` or ``make mutation MODULE=node/routing/rules.py``.

Works on the tracked files as they are, in a copy below ``build/mutation``. Each change of a module that its tests do
not notice is printed; the exit status is 1 unless ``EXPLAINED`` says of each why it is the same, and of no other.
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from explained_mutations import EXPLAINED

MODULES = {
    "node/operate/account/balance.py": ("test_balance", "test_progress"),
    "node/ledger/progress.py": ("test_progress",),
    "node/routing/rules.py": ("test_rules", "test_rule_decisions", "test_order_rules"),
    "node/routing/completeness.py": ("test_completeness",),
    "node/studies/slice_steps.py": ("test_slice_steps",),
}
"""The tests of ``tests/unit`` that stand for each module."""
_NOTICED = {"killed", "timeout"}
_ROOT = Path(__file__).parents[2]
_COPY = _ROOT / "build" / "mutation"
_PYTEST = ("--hypothesis-profile=quick", "--hypothesis-seed=0", "--override-ini=addopts=-q")


def copy_tracked_files() -> None:
    """Make the copy anew; mutmut puts a second one below it, with the module that has all its mutants."""
    shutil.rmtree(_COPY, ignore_errors=True)
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=_ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (_ROOT / name).is_file():
            (_COPY / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(_ROOT / name, _COPY / name)


def without_decorators(source: str) -> str:
    """Make ``name = property(get_name)`` of each property: mutmut leaves decorated functions as they are."""
    lines = source.splitlines()
    functions = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]
    for node in sorted(functions, key=lambda node: node.lineno, reverse=True):
        if [ast.unparse(decorator) for decorator in node.decorator_list] == ["property"]:
            lines.insert(node.end_lineno or 0, f"{' ' * node.col_offset}{node.name} = property(get_{node.name})")
            lines[node.lineno - 1] = lines[node.lineno - 1].replace(f"def {node.name}(", f"def get_{node.name}(")
            del lines[node.decorator_list[0].lineno - 1]
    return "\n".join(lines) + "\n"


def mutmut(*arguments: str) -> str:
    """Run mutmut in the copy; what it prints."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, "-m", "mutmut", *arguments],
        cwd=_COPY,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(
            f"mutmut {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout[-4000:]}{done.stderr[-2000:]}"
        )
    return done.stdout


def change_of(name: str) -> tuple[str, str, str]:
    """The difference of a mutant from its module, the lines that it lacks and those that it has in their place."""
    difference = mutmut("show", name).partition("\n")[2].strip()
    lines = difference.splitlines()[2:]  # after the names of the files
    before, after = (" ".join(line[1:].strip() for line in lines if line.startswith(sign)) for sign in "-+")
    return difference, before, after


def check(module: str, children: int) -> int:
    """Run its tests on each mutant of a module; what survives unexplained, or is explained in vain."""
    copy_tracked_files()
    path = _COPY / module
    path.write_text(without_decorators(path.read_text(encoding="utf-8")), encoding="utf-8")
    also = "".join(f"\n    {path.name}" for path in sorted(_COPY.iterdir()))
    tests = "".join(f"\n    tests/unit/{name}.py" for name in MODULES[module])
    arguments = "".join(f"\n    {argument}" for argument in _PYTEST)
    (_COPY / "setup.cfg").write_text(
        f"[mutmut]\nsource_paths={module}\nalso_copy={also}\n"
        f"pytest_add_cli_args={arguments}\npytest_add_cli_args_test_selection={tests}\n",
        encoding="utf-8",
    )
    mutmut("run", "--max-children", str(children))
    states = dict(re.findall(r"^\s*(\S+): (.+)$", mutmut("results", "--all", "true"), flags=re.MULTILINE))
    changes: set[tuple[str, str, str]] = set()
    explained, unexplained = 0, 0
    for name in (name for name, state in states.items() if state not in _NOTICED):
        difference, before, after = change_of(name)
        if (module, before, after) in EXPLAINED:
            changes.add((module, before, after))
            explained += 1
            continue
        unexplained += 1
        print(f"{name}: {states[name]}\n{difference}\n", flush=True)
    unfounded = {key for key in EXPLAINED if key[0] == module} - changes
    for _, before, _ in unfounded:
        print(f"{module}: the explained change of this line is noticed or gone: {before}", flush=True)
    killed = len(states) - explained - unexplained
    figures = f"{len(states)} mutants, {killed} killed, {explained} explained, {unexplained} survive"
    print(f"{module}: {figures}", flush=True)
    return unexplained + len(unfounded)


def main() -> int:
    """Check the named modules, or all, one after another; 1 when a mutant survives unexplained."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--children", type=int, default=os.cpu_count(), help="processes at once")
    parser.add_argument("modules", nargs="*")
    options = parser.parse_args()
    if unknown := set(options.modules) - set(MODULES):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; modules are {', '.join(MODULES)}")
    survivors = [check(module, options.children) for module in options.modules or MODULES]
    return 1 if any(survivors) else 0


if __name__ == "__main__":
    sys.exit(main())
