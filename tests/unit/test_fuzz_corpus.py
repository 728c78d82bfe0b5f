"""Every stored example of fuzzing, past findings among them, read again by its reader."""

from __future__ import annotations

from pathlib import Path

import pytest
from fuzz_limits import TooSlow, limited_memory, limited_time
from fuzz_targets import TARGETS, examples, opened


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.filterwarnings("ignore")
def test_every_stored_example_is_read_or_refused_within_time_and_memory(name: str, tmp_path: Path):
    errors = {}
    with opened(name, tmp_path) as read, limited_memory():
        for path in examples(name):
            try:
                with limited_time():
                    read(path.read_bytes())
            except (Exception, TooSlow) as error:  # noqa: BLE001 - any is a finding
                errors[path.name] = repr(error)
    assert errors == {}
