"""``[deidentify]``: the key of all pseudonyms."""

from __future__ import annotations

from node.config.table import OptionalPath, Table


class Deidentify(Table):
    """What destinations with ``deidentify`` have in common."""

    key_file: OptionalPath = None
    """Key of pseudonyms, UIDs and shifted dates (32 bytes, hexadecimal); absent: ``deidentify-key`` in the storage
    folder."""
