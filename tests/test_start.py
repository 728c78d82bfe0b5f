"""What a start of ``ainode`` loads, and what it does when another package has taken our import names."""

from __future__ import annotations

import json
import subprocess
import sys

IMPORTED = """
import json, sys
before = set(sys.modules)
from node.__main__ import main
main(["--help"], standalone_mode=False)
print(json.dumps(sorted(set(sys.modules) - before)), file=sys.stderr)
"""


def test_help_loads_no_library_but_the_one_that_prints_it():
    done = subprocess.run([sys.executable, "-c", IMPORTED], capture_output=True, text=True, check=True)
    assert "STUDY_UID" in done.stdout
    loaded = json.loads(done.stderr)
    assert {name.partition(".")[0] for name in loaded} - sys.stdlib_module_names == {"click", "node"}
    assert not {"node.bench", "node.config", "node.demo", "node.service"} & set(loaded)
