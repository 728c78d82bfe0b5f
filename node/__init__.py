"""The DICOM AI node: receives studies, runs pipelines on them, sends SEG, SR and derived images back."""

__version__ = "0.1.0"
