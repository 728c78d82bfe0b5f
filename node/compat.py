"""Private names of libraries that the node uses, and the versions that have them.

A private name may move in any release, so that ``pyproject.toml`` allows these libraries only below ``below``.
``tests/unit/test_compat.py`` keeps this list, the code and ``pyproject.toml`` equal, and says what each name must be;
it is the first thing to run when a bound is raised. ``ainode check`` reports a name that the installed library lacks.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version


@dataclass(frozen=True, kw_only=True)
class Internals:
    """Private names of one module of a library."""

    library: str
    """Name of the distribution."""
    below: str
    """First version that is not allowed."""
    module: str
    names: tuple[str, ...]
    """In the module; of a class as ``Class.name``, also what its instances have."""
    purpose: str


INTERNALS = (
    Internals(
        library="dbos",
        below="3.5",
        module="dbos",
        names=("DBOS._recover_pending_workflows",),
        purpose="put back the work of a process that died",
    ),
    Internals(
        library="dbos",
        below="3.5",
        module="dbos._dbos",
        names=("_get_or_create_dbos_registry", "DBOSRegistry._register_internal_queue", "Queue._worker_concurrency"),
        purpose="queues whose limits are those of one process",
    ),
    Internals(
        library="dbos",
        below="3.5",
        module="dbos._sys_db",
        names=("SystemDatabase",),
        purpose="end the delay of a retry by the clock of the ledger",
    ),
    Internals(
        library="highdicom",
        below="0.29",
        module="highdicom._standard_utils",
        names=(
            "AttributeTypeValues",
            "construct_module_tree",
            "get_iod_module_map",
            "get_module_attribute_map",
            "get_sop_class_iod_map",
        ),
        purpose="the tables of PS3.3 that the gate validates against",
    ),
    Internals(
        library="httpcore",
        below="1.1",
        module="httpcore",
        names=("ConnectionPool._network_backend",),
        purpose="bound the time of an answer as a whole",
    ),
    Internals(
        library="httpx",
        below="0.29",
        module="httpx",
        names=("Client._transport", "Client._mounts", "HTTPTransport._pool"),
        purpose="bound the time of an answer as a whole",
    ),
    Internals(
        library="pydicom",
        below="3.1",
        module="pydicom.sr._concepts_dict",
        names=("concepts",),
        purpose="the code meanings that the gate compares",
    ),
    Internals(
        library="pydicom",
        below="3.1",
        module="pydicom.dataset",
        names=("Dataset._character_set",),
        purpose="write undecoded elements as they are",
    ),
    Internals(
        library="pydicom",
        below="3.1",
        module="pydicom.pixels.decoders",
        names=("gdcm._decode_frame", "pillow._decode_frame"),
        purpose="decode JPEG 2000 with OpenJPEG before GDCM and Pillow",
    ),
    Internals(
        library="pynetdicom",
        below="3.1",
        module="pynetdicom._globals",
        names=("APPLICATION_CONTEXT_NAME",),
        purpose="the DICOM application context (PS3.7 A.2.1)",
    ),
    Internals(
        library="pynetdicom",
        below="3.1",
        module="pynetdicom._config",
        names=("CODECS", "LOG_HANDLER_LEVEL", "STORE_SEND_CHUNKED_DATASET", "VALIDATORS"),
        purpose="keep patient names out of the log, accept unusual UIDs and titles, send files as they are stored",
    ),
    Internals(
        library="pynetdicom",
        below="3.1",
        module="pynetdicom.association",
        names=("Association._reactor_checkpoint",),
        purpose="leave each answer of a peer to the thread that waits for it",
    ),
)


def missing(used: tuple[Internals, ...] = INTERNALS) -> Iterator[str]:
    """What the installed libraries lack, each with the remedy. Imports the libraries."""
    for internals in used:
        for name in internals.names:
            if not _exists(internals.module, name):
                yield (
                    f"{internals.library} {version(internals.library)} has no {internals.module}.{name} "
                    f"({internals.purpose}); install {internals.library} below {internals.below}"
                )


def _exists(module: str, name: str) -> bool:
    try:
        member: object = importlib.import_module(module)
    except ImportError:
        return False
    for part in name.split("."):
        if not hasattr(member, part):
            return isinstance(member, type) and part in member.__init__.__code__.co_names  # type: ignore[misc]
        member = getattr(member, part)
    return True


def missing_packages() -> list[str]:
    """Return the distributions that ainode requires, without those of its extras, and that are not installed."""
    try:
        required = requires("ainode") or []
    except PackageNotFoundError:  # run from its sources
        return []
    names = [re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in required if "extra ==" not in line]
    return [name for name in names if not _is_installed(name)]


def _is_installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True
