"""Most of the start of a process is import: each kind of process imports what it needs and nothing else."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import node.service
from node.roles import ROLES

ENCODERS = ("highdicom", "monai", "pipelines", "pydicom.sr", "reportlab", "scipy", "torch")
"""What decodes, computes or encodes, in confined processes only."""
LARGE = ("reportlab", "scipy.fft", "scipy.ndimage", "scipy.spatial")
"""What some analyses need: half of what the start of an encoder would compute."""
LEDGER = ("alembic", "dbos", "psycopg", "sqlalchemy")
SERVICE = ast.walk(ast.parse(Path(node.service.__file__).read_text()))
STARTED = {statement.module for statement in SERVICE if isinstance(statement, ast.ImportFrom) and statement.module}
ALL_ROLES = {*STARTED, *(f"node.roles.{role}" for role in ROLES)}
"""What the supervisor and its processes import."""


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("modules", "not_needed"),
    [
        (ALL_ROLES, ENCODERS),
        ({"node.service", "node.roles.context", "node.roles.receiver"}, (*ENCODERS, "dbos", "psycopg")),
        ({"node.supervisor", "node.service"}, (*ENCODERS, *LEDGER)),
        ({"node.confined.child", "node.routing.series_examination"}, (*ENCODERS, *LEDGER)),
        ({"node.confined.child", "node.studies.body_region.recognition"}, ("monai", "pipelines", "torch", *LEDGER)),
        (
            {"node.inference.child", "node.inference.run_pipeline", "node.inference.handover"},
            (*LEDGER, *LARGE, "torch"),
        ),
        ({"node.confined.child", "node.inference.encode_and_check"}, (*LEDGER, *LARGE, "torch")),
    ],
    ids=["roles", "receiver", "supervisor", "header reader", "body region reader", "models", "encoder"],
)
def test_a_process_imports_only_what_it_needs(modules: set[str], not_needed: tuple[str, ...]):
    program = (
        f"import sys, {', '.join(sorted(modules))}\n"
        f"sys.exit(' '.join(name for name in sys.modules if name in {not_needed!r}) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
