"""Private names of libraries: listed in ``node/compat.py``, allowed by ``pyproject.toml``, and as the node needs them.

When a library moves, this is where it shows first: raise the bound in both places only after these tests pass.
"""

from __future__ import annotations

import ast
import inspect
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from dbos import DBOS
from dbos._dbos import DBOSRegistry
from dbos._queue import queue_worker_thread
from dbos._sys_db import SystemDatabase
from dbos._workflow_commands import background_jobs_thread
from highdicom import _standard_utils
from pydicom import Dataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.sr._concepts_dict import concepts
from pydicom.uid import JPEG2000Lossless
from pynetdicom import _config, _globals

from node.check import check
from node.compat import INTERNALS, Internals, missing
from node.config import parse
from node.jobs.engine import Jobs
from node.ledger import JobStage
from node.ledger.engine import open_ledger
from node.queues.attempt_queues import DBOS_QUEUE, waiting_attempts
from node.studies import jpeg_2000

ROOT = Path(__file__).parents[2]
DOCUMENTED = {
    "_exit",  # os
    "_fields",  # sqlalchemy.Row, as of collections.namedtuple
    "_asdict",  # collections.namedtuple
    "_mapping",  # sqlalchemy.Row
    "_replace",  # collections.namedtuple
}
MAY_USE = re.compile(
    r"(?<!\bself)(?<!\bcls)\._[a-z]|^ *(from|import) .*\b_[a-z]|^ +_\w+( as \w+)?,?$", re.MULTILINE | re.IGNORECASE
)
"""An attribute or an import of a private name, as the formatter writes it: few files have one, and all need seconds."""
TRAINING = {"_is_avx512_bf16_supported"}  # torch; only a pipeline's training program asks


def dependencies() -> list[str]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]


def test_extras_that_import_torchvision_take_that_of_the_pinned_torch() -> None:
    """The newest brings the newest torch, built for CUDA, in place of the installed one."""
    (torch,) = (line for line in (ROOT / "constraints.txt").read_text().splitlines() if line.startswith("torch=="))
    minor = int(torch.split(".")[1]) + 15  # torchvision 0.28 is that of torch 2.13
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for name in ("detection", "nnunet"):
        assert f"torchvision>=0.{minor},<0.{minor + 1}" in extras[name]


def private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def used(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Module and name of what a file takes from libraries by a private name; module ``""`` for an attribute."""
    modules: dict[str, str] = {}
    parts = list(ast.walk(tree))
    for part in parts:
        if isinstance(part, ast.ImportFrom) and part.module not in (None, "_typeshed"):
            if any(map(private, part.module.split("."))):
                yield from ((part.module, alias.name) for alias in part.names)
            else:
                modules |= {a.asname or a.name: f"{part.module}.{a.name}" for a in part.names if private(a.name)}
    for part in parts:
        if isinstance(part, ast.Attribute):
            owner = part.value.id if isinstance(part.value, ast.Name) else ""
            if owner in modules:
                yield modules[owner], part.attr
            elif private(part.attr) and owner not in ("self", "cls"):
                yield "", part.attr


def test_every_private_name_that_the_code_uses_is_listed():
    listed = {(i.module, name) for i in INTERNALS for name in i.names if "." not in name}
    listed |= {("", name.rpartition(".")[2]) for i in INTERNALS for name in i.names if "." in name}
    pairs = set()
    for room in ("node", "pipelines"):
        for path in (ROOT / room).rglob("*.py"):
            if MAY_USE.search(text := path.read_text()):
                pairs |= {pair for pair in used(ast.parse(text)) if not pair[0].startswith("node")}
    assert {pair for pair in pairs if pair[1] not in DOCUMENTED | TRAINING} == listed


def test_a_library_of_which_private_names_are_used_has_an_upper_bound():
    bounds = {
        name: below
        for dependency in dependencies()
        for name, below in re.findall(r"^([a-z0-9-]+)>=.*,<([0-9.]+)$", dependency)
    }
    assert bounds == {internals.library: internals.below for internals in INTERNALS}


def test_every_dependency_has_a_lower_bound():
    assert [dependency for dependency in dependencies() if not re.match(r"[a-z0-9-]+>=[0-9]", dependency)] == []


def test_the_installed_libraries_have_every_name():
    assert list(missing()) == []


def test_a_name_that_moved_is_reported_with_its_purpose_and_the_remedy(monkeypatch: Any):
    moved = Internals(
        library="pydicom", below="3.1", module="pydicom.dataset", names=("Dataset._gone",), purpose="write elements"
    )
    assert re.fullmatch(
        r"pydicom [0-9.]+ has no pydicom.dataset.Dataset._gone \(write elements\); install pydicom below 3.1",
        *missing((moved,)),
    )
    monkeypatch.delattr(_config, "CODECS")
    answer = next(answer for answer in check(parse("")) if answer.name == "libraries")
    assert not answer.good
    assert "has no pynetdicom._config.CODECS" in answer.found


def test_dbos_recovers_the_workflows_of_named_executors():
    parameters = inspect.signature(DBOS._recover_pending_workflows).parameters
    assert list(parameters) == ["executor_ids"]


def test_dbos_takes_queues_of_one_process_whose_limit_is_read_at_each_poll():
    parameters = inspect.signature(DBOSRegistry._register_internal_queue).parameters
    assert list(parameters) == ["self", "name", "limits"]
    queue = DBOSRegistry()._register_internal_queue("gpu/p", worker_concurrency=1, polling_interval_sec=0.5)
    assert (queue.name, queue._worker_concurrency, queue.database_backed_queue) == ("gpu/p", 1, False)
    registry = DBOSRegistry()
    own = registry._register_internal_queue(DBOS_QUEUE, worker_concurrency=1, polling_interval_sec=5.0)
    assert registry.get_internal_queue() is own
    poll = inspect.getsource(queue_worker_thread)
    assert "if queue.database_backed_queue:" in poll
    assert "worker_budget(queue, worker_load())" in poll


def test_dbos_ends_delays_by_a_method_of_its_database():
    assert list(inspect.signature(SystemDatabase.transition_delayed_workflows).parameters) in (["self"], ["database"])
    assert "dbos._sys_db.transition_delayed_workflows()" in inspect.getsource(background_jobs_thread)


def test_dbos_counts_what_waits_by_its_own_index(tmp_path: Path) -> None:
    engine = open_ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    Jobs(engine)
    plans = []

    def explain(connection: sa.Connection, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.startswith("SELECT workflow_status"):
            plans.append(str(connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()))

    sa.event.listen(engine, "after_cursor_execute", explain)
    with engine.connect() as connection:
        assert waiting_attempts(connection, JobStage.INFER) == {}
    engine.dispose()
    assert "USING COVERING INDEX idx_workflow_status_in_flight" in plans[0]


def test_highdicom_has_the_tables_of_ps3_3():
    iod = _standard_utils.get_sop_class_iod_map()["1.2.840.10008.5.1.4.1.1.66.4"]  # Segmentation Storage
    modules = _standard_utils.get_iod_module_map()[iod]
    assert {"key", "usage"} <= modules[0].keys()
    assert {"M", "U", "C"} >= {module["usage"] for module in modules}
    row = _standard_utils.get_module_attribute_map()["sop-common"][0]
    assert {"keyword", "type", "path"} <= row.keys()
    tree = _standard_utils.construct_module_tree("sop-common")["attributes"]
    assert tree["SOPInstanceUID"]["type"] == _standard_utils.AttributeTypeValues.REQUIRED


def test_pydicom_has_code_meanings_by_scheme_keyword_and_value():
    assert concepts["SCT"]["Lung"]["39607008"][0] == "Lung"


def test_pydicom_keeps_the_character_set_of_a_dataset():
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.PatientName = "M\u00fcller"
    assert dataset._character_set == ["UTF8"]


def test_pydicom_takes_its_own_decoders_again_in_another_order():
    decoder = get_decoder(JPEG2000Lossless)
    for name, function in jpeg_2000._LATER.items():
        assert list(inspect.signature(function).parameters) == ["src", "runner"]
        assert name in decoder.available_plugins
    before = decoder.available_plugins
    jpeg_2000.prefer_openjpeg()
    assert decoder.available_plugins == before


def test_pynetdicom_has_its_settings():
    assert _globals.APPLICATION_CONTEXT_NAME == "1.2.840.10008.3.1.1.1"
    assert isinstance(_config.STORE_SEND_CHUNKED_DATASET, bool)
    assert isinstance(_config.LOG_HANDLER_LEVEL, str)
    assert set(_config.CODECS) >= {"ascii"}
    assert _config.VALIDATORS["UI"]("1.2.3")[0]
