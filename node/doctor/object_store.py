"""What the object store honours of that which packs rely on."""

from __future__ import annotations

from collections.abc import Iterator

from node.check import Check
from node.config import Config
from node.errors import NodeError
from node.translation import gettext, marked

_REMEDIES = {
    "write": marked("correct address, credentials and permissions in [storage.object_store]"),
    "conditional write": marked("nothing is lost by that: packs are named by their content"),
    "read of ranges": marked("use another store, or a proxy that passes ranges on"),
    "list": marked("allow ListBucket; without it `ainode packs` finds no packs after the ledger was lost"),
    "clock": marked("set the clocks of this machine and of the store (NTP): S3 refuses requests 15 minutes off"),
    "delete": marked("allow DeleteObject; without it packs stay for ever"),
}
"""By what does not work; ``node.object_store.probe`` names it."""
_FIRST, _OPTIONAL = "write", "conditional write"


def object_store(config: Config) -> Iterator[Check]:
    """Write, read, list and delete an object; nothing without an object store."""
    if not config.storage.object_store.url:
        return
    from node.object_store.probe import probe
    from node.object_store.store import open_objects

    name = gettext("object store")
    try:
        answers = probe(open_objects(config.storage.object_store))
    except NodeError as error:
        yield Check(name=name, good=False, found=str(error), remedy=gettext(_REMEDIES[_FIRST]))
        return
    if working := [of.ability for of in answers if of.works]:
        yield Check(name=name, good=True, found=gettext("works: {abilities}", abilities=", ".join(working)))
    for of in answers:
        if not of.works:
            text = gettext("does not work: {ability} {reason}", ability=of.ability, reason=of.found).strip()
            yield Check(name=name, good=of.ability == _OPTIONAL, found=text, remedy=gettext(_REMEDIES[of.ability]))
