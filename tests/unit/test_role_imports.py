"""Most of the start of a role is import: what decodes, computes or encodes is imported by confined processes only."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import node.service

CONFINED = ("highdicom", "monai", "pipelines", "pydicom.sr", "reportlab", "scipy", "torch")
"""Imported by the confined processes that read, run models and encode."""


def test_no_role_imports_what_only_confined_processes_need():
    tree = ast.parse(Path(node.service.__file__).read_text())
    modules = {one.module for one in ast.walk(tree) if isinstance(one, ast.ImportFrom) and one.module}
    assert {"node.web", "node.deliver", "node.inference.encode", "node.inference.infer"} <= modules
    program = (
        f"import sys, {', '.join(sorted(modules))}\n"
        f"sys.exit(' '.join(name for name in sys.modules if name in {CONFINED!r}) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
