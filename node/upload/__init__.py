"""Uploads: images of a folder, a ZIP archive or a CD, for the receiver of this node."""

from node.upload.file_result import FileKind, FileResult, UploadSummary
from node.upload.medium import MediumFile
from node.upload.medium_upload import upload_files, upload_medium

__all__ = ["FileKind", "FileResult", "MediumFile", "UploadSummary", "upload_files", "upload_medium"]
