"""The DICOM AI node: receives studies, runs pipelines on them, sends SEG, SR and derived images back."""

__version__ = "1.0.0"

MAKER = "AI node"
"""Manufacturer (0008,0070) of every result: with ``SOFTWARE`` the mark by which any node knows the results of another.

Never change it: a node that does not know them analyses them again, and sends the results to where they come back from.
"""
SOFTWARE = "ainode"
"""First word of a value of Software Versions (0018,1020) of every result; never change it, as above."""
IMPLEMENTATION_CLASS_UID = "2.25.201031648030693069906428237908919383602"
"""Implementation Class UID (PS3.7 D.3.3.2) of this software, in associations and in the files it writes."""
IMPLEMENTATION_VERSION_NAME = f"AINODE_{__version__}".replace(".", "_")
"""Implementation Version Name, at most 16 characters."""
