"""Write-once durable files below ``[storage] folder``.

Layout, every path relative to that folder::

    incoming/STUDY/SERIES/SOP.dcm             as received, never modified
    conflicts/STUDY/SERIES/SOP.DIGEST.dcm     the same SOP Instance UID with other bytes
    results/JOB/SOP.dcm                       encoded results
    work/JOB/                                 handover between the stages of a job
    cache/DIGEST/SOP.dcm                      copies of files that only other machines or packs hold
    temporary/WRITER/                         files that one process, which locks this folder, is writing, and second
                                              links of files whose row is not yet in the ledger

Guarantee: when ``keep`` or ``keep_result`` returns, the file and every folder above it survive a power cut, provided
that the file system honours fsync. A process that is killed earlier leaves at most a temporary file, never a partial
file under a final name. Limit: hard links on one file system are needed (ext4, XFS, Btrfs, ZFS; not SMB).
"""

from node.spool.digest import digest_of
from node.spool.drafts import LARGEST_OBJECT, Draft
from node.spool.files import META_BEGINS, dataset_offset, stated_offset, sync_folder, write_once
from node.spool.spool import CACHE, DATA_FOLDERS, Spool, StoredFile
from node.spool.uid import is_uid

__all__ = [
    "CACHE",
    "DATA_FOLDERS",
    "LARGEST_OBJECT",
    "META_BEGINS",
    "Draft",
    "Spool",
    "StoredFile",
    "dataset_offset",
    "digest_of",
    "is_uid",
    "stated_offset",
    "sync_folder",
    "write_once",
]
