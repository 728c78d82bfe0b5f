"""Which instances a notification names."""

from __future__ import annotations

from collections.abc import Sequence

from pydicom.dataset import Dataset

from node.spool import is_uid


def referenced_instances(attributes: Dataset, lists: Sequence[str], *, but: str = "") -> frozenset[tuple[str, str]]:
    """Return ``(SeriesInstanceUID, SOPInstanceUID)`` of what Referenced Series Sequence (0008,1115) names.

    ``lists``: keywords of the sequences with the instances of a series; ``but``: the Instance Availability (0008,0056)
    of those that do not count.
    """
    named = set()
    for series in attributes.get("ReferencedSeriesSequence") or ():
        series_uid = str(series.get("SeriesInstanceUID") or "")
        for item in (item for keyword in lists for item in series.get(keyword) or ()):
            uid = str(item.get("ReferencedSOPInstanceUID") or "")
            if is_uid(series_uid) and is_uid(uid) and not (but and item.get("InstanceAvailability") == but):
                named.add((series_uid, uid))
    return frozenset(named)
