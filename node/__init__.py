"""The DICOM AI node: receives studies, runs pipelines on them, sends SEG, SR and derived images back."""

__version__ = "0.1.0"

IMPLEMENTATION_CLASS_UID = "2.25.201031648030693069906428237908919383602"
"""Implementation Class UID (PS3.7 D.3.3.2) of this software, in associations and in the files it writes."""
IMPLEMENTATION_VERSION_NAME = f"AINODE_{__version__}".replace(".", "_")
"""Implementation Version Name, at most 16 characters."""
