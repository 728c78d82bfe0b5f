"""Equipment of every result: maker, algorithm, versions and serial number."""

from __future__ import annotations

from datetime import datetime

from highdicom import ContributingEquipment
from pydicom.sr.codedict import codes

from node import MAKER, SOFTWARE, __version__
from node.results.analysis import Analysis
from node.results.identity import plain
from node.results.uids import device_uid

MANUFACTURER = MAKER


def equipment(analysis: Analysis, moment: datetime) -> ContributingEquipment:
    """The algorithm as Contributing Equipment (PS3.3 C.12.1; IHE AI Results asks for its Device UID)."""
    algorithm = analysis.algorithm
    timings = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in analysis.timings.items())
    item = ContributingEquipment(
        manufacturer=MANUFACTURER,
        purpose_of_reference=codes.DCM.ProcessingEquipment,
        manufacturer_model_name=plain(algorithm.name),
        software_versions=software_versions(analysis),
        device_serial_number=serial_number(analysis),
        contribution_datetime=moment.replace(tzinfo=None),
        contribution_description=plain(f"Analysis: {analysis.title}" + (f"; {timings}" if timings else ""), 1024),
    )
    item.DeviceUID = device_uid(analysis)
    return item


def software_versions(analysis: Analysis) -> list[str]:
    """Version of the algorithm, then of the node."""
    return [plain(analysis.algorithm.version) or "unknown", f"{SOFTWARE} {__version__}"]


def serial_number(analysis: Analysis) -> str:
    """Device Serial Number: changes with the weights."""
    algorithm = analysis.algorithm
    return algorithm.weights_sha256 or plain(f"{algorithm.name} {algorithm.version}".strip())
