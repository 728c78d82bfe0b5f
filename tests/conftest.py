"""Fixtures that several test modules need."""

from __future__ import annotations

import fcntl
import gc
import os
import shutil
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, ExitStack
from functools import cache
from pathlib import Path
from tempfile import gettempdir
from typing import TYPE_CHECKING, Any

import postgres
import pytest
import real_peers
import sqlalchemy as sa
from certificates import Authority
from hypothesis import settings
from ledgers import new_on_server, open_copy
from notes import shared_notes
from receivers import Node, ReceiverProcess, receiving
from standing_models import StandingModels
from standing_processes import standing_processes
from xdist.scheduler import LoadScopeScheduling

if TYPE_CHECKING:
    from dashboards import Dashboard, Serve
    from reader_site import Site

    from node.jobs.engine import Jobs

ROOMS = ("system", "hostile", "peers", "unit")
"""The folders of tests, which are also their markers, in the order in which several workers take them."""

os.environ["LC_ALL"] = "C.UTF-8"  # commands answer in English, also on a German or Chinese machine
settings.register_profile("quick", max_examples=10, deadline=None)
settings.register_profile("thorough", max_examples=100, deadline=None)
settings.load_profile("thorough")


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """Nothing of what is imported becomes free: looking for garbage in it takes a fifth of the collection."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_addoption(parser: pytest.Parser) -> None:
    about = "run a third of the tests marked rotating: another with each number"
    parser.addoption("--turn", type=int, default=None, metavar="NUMBER", help=about)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark each test with its folder; several workers begin with the files that may take the longest."""
    for item in items:
        item.add_marker(item.path.parent.name)
        if getattr(getattr(item, "obj", None), "is_hypothesis_test", False):
            item.add_marker("examples")
    if (turn := config.getoption("turn")) is not None:
        _leave_out(config, items, turn)
    if not hasattr(config, "workerinput"):
        return
    seconds = {item.path: 0.0 for item in items}
    for item in items:
        limit = item.get_closest_marker("timeout")
        seconds[item.path] += float(limit.args[0]) if limit else 0.0

    def turn(item: pytest.Item) -> tuple[int, float]:
        room, longest = item.path.parent.name, seconds[item.path]
        # A file of the unit tests is one worker's: a long one that began last would keep the others waiting.
        return 0 if room == "unit" and longest else ROOMS.index(room), -longest

    items.sort(key=turn)


def _leave_out(config: pytest.Config, items: list[pytest.Item], turn: int) -> None:
    """Keep a third of the tests that take turns."""
    rotating = sorted((item for item in items if item.get_closest_marker("rotating")), key=lambda item: item.nodeid)
    others = [item for number, item in enumerate(rotating) if (number - turn) % 3]
    config.hook.pytest_deselected(items=others)
    items[:] = [item for item in items if item not in others]


class _SharedFiles(LoadScopeScheduling):
    """Gives all tests of a file to one worker where they share a fixture that their file makes once, or are quick."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return file if _is_shared(file) else nodeid


@cache
def _is_shared(file: str) -> bool:
    path = Path(__file__).parents[1] / file
    return path.parent.name == "unit" or 'scope="module"' in path.read_text(encoding="utf-8")


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> _SharedFiles:
    """Share the tests among the workers; pytest-xdist's own groups have no effect since pytest 9.2."""
    return _SharedFiles(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What a test logs may hold text that UTF-8 cannot encode; a worker could not send such a report."""
    report = yield
    report.sections = [(name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections]
    return report


@pytest.fixture(scope="session", autouse=True)
def confined_processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests of one worker share the confined processes that they only use."""
    folders = (tmp_path_factory.getbasetemp(), Path(gettempdir()), Path("/dev/shm"))  # noqa: S108 - tests' own folders
    with standing_processes(folders):
        yield


@pytest.fixture(scope="session")
def models_that_stay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandingModels]:
    """Processes of models for the nodes of ``standing_models``."""
    with ExitStack() as ends:
        yield StandingModels(tmp_path_factory.getbasetemp(), ends)


@pytest.fixture
def standing_models(models_that_stay: StandingModels) -> Iterator[None]:
    """Nodes of this process leave their models and their encoder to those of other tests."""
    with models_that_stay.used():
        yield


@pytest.fixture
def free_port() -> int:
    """A TCP port on loopback that nobody listens on."""
    return real_peers.free_port()


@pytest.fixture
def notes() -> Iterator[Path]:
    """A folder into which pipelines may write although they are confined."""
    with shared_notes() as folder:
        yield folder


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    """A receiver in this process that takes everything."""
    with receiving(tmp_path / "node") as running:
        yield running


@pytest.fixture
def receiver_process(tmp_path: Path) -> Iterator[Callable[..., ReceiverProcess]]:
    """Makes receivers in processes of their own; they are killed at the end."""
    made: list[ReceiverProcess] = []

    def make(**options: Any) -> ReceiverProcess:
        made.append(ReceiverProcess(tmp_path / f"receiver-{len(made)}", **options))
        return made[-1]

    yield make
    for process in made:
        process.kill()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """URL of a PostgreSQL server of our own; ``postgres.new_database`` makes a database for one test."""
    with postgres.cluster() as url:
        yield url


@pytest.fixture
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[sa.Engine]:
    """A ledger: on SQLite, or on PostgreSQL where ``postgres.BOTH`` says so."""
    url = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    if getattr(request, "param", "sqlite") == "postgresql":
        url = new_on_server(request.getfixturevalue("postgres_server"), tmp_path.name.lower())
    opened = open_copy(url)
    yield opened
    opened.dispose()


@pytest.fixture
def jobs(engine: sa.Engine) -> Iterator[Jobs]:
    """The jobs of that ledger, at a pace for tests; they serve nothing any more at the end."""
    from job_node import PACE

    from node.jobs.engine import Jobs

    made = Jobs(engine, PACE)
    yield made
    made.stop()


@pytest.fixture(scope="session")
def standing_pacs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[real_peers.Orthanc]:
    """One Orthanc for all tests that neither stop it nor configure it."""
    with real_peers.orthanc(tmp_path_factory.mktemp("standing")) as running:
        yield running


@pytest.fixture
def pacs(standing_pacs: real_peers.Orthanc) -> real_peers.Orthanc:
    """An empty Orthanc that runs; it knows ``AINODE`` and dcmtk, and never calls."""
    standing_pacs.empty()
    return standing_pacs


@pytest.fixture(scope="session")
def analysed_study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """Folder of a node, and study and job of the one CT that it has analysed: to be copied.

    It takes seconds of computing, so that the worker that comes first makes it for all.
    """
    from dashboards import analysed

    folder = tmp_path_factory.getbasetemp()
    folder = (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "analysed"
    folder.mkdir(exist_ok=True)
    with folder.with_suffix(".names").open("a+", encoding="ascii") as names:
        fcntl.flock(names, fcntl.LOCK_EX)
        names.seek(0)
        if not (study_and_job := names.read().split()):
            study_and_job = list(analysed(folder))
            names.write(" ".join(study_and_job))
    study, job_id = study_and_job
    return folder, study, job_id


@pytest.fixture(scope="session")
def serve(analysed_study: tuple[Path, str, str], tmp_path_factory: pytest.TempPathFactory) -> Serve:
    """Starts dashboards, each on a copy of one analysed study."""
    from dashboards import dashboard_on

    analysed, uid, job_id = analysed_study

    def started(**web: Any) -> AbstractContextManager[Dashboard]:
        folder = tmp_path_factory.mktemp("dashboard")
        shutil.copytree(analysed, folder, dirs_exist_ok=True)
        return dashboard_on(folder, uid, job_id, **web)

    return started


@pytest.fixture
def site(analysed_study: tuple[Path, str, str], tmp_path: Path) -> Site:
    """A copy of that node, to which readers' objects come back."""
    from reader_site import Site

    folder, study, job_id = analysed_study
    shutil.copytree(folder, tmp_path / "node")
    return Site(tmp_path / "node", study, job_id)


@pytest.fixture(scope="session")
def standing(serve: Serve) -> Iterator[Dashboard]:
    """A dashboard for tests that change nothing."""
    with serve() as running:
        yield running


@pytest.fixture
def dashboard(serve: Serve) -> Iterator[Dashboard]:
    """A dashboard of one test's own."""
    with serve() as running:
        yield running


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Has issued certificates of which one has ended and one is revoked."""
    made = Authority(tmp_path_factory.mktemp("authority"))
    made.issue("expired", "-startdate", "20200101000000Z", "-enddate", "20200201000000Z")
    made.issue("revoked")
    made.revoke("revoked")
    made.revocation_list()
    return made


@pytest.fixture(scope="session")
def other(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority that nobody trusts."""
    return Authority(tmp_path_factory.mktemp("other"))
