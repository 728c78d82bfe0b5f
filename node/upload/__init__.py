"""Uploads: images of a folder, a ZIP archive or a CD, for the receiver of this node."""

from node.upload.file_result import FileKind, FileResult, UploadSummary
from node.upload.medium_upload import upload_medium

__all__ = ["FileKind", "FileResult", "UploadSummary", "upload_medium"]
