"""Targets of coverage-guided fuzzing by name: the reader, and the mutation that knows its format."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

CORPUS = Path(__file__).with_name("corpus")
TARGETS = {
    "header": ("fuzz_images:header", "dicom"),
    "frames": ("fuzz_images:frames", "dicom"),
    "report": ("fuzz_results:report", "dicom"),
    "masks": ("fuzz_results:masks", "dicom"),
    "handover": ("fuzz_results:handover", "npz"),
    "config": ("fuzz_images:config", "lines"),
    "pages": ("fuzz_pages:pages", ""),
    "bundle": ("fuzz_models:bundle", "tree"),
    "nnunet": ("fuzz_models:nnunet", "tree"),
    "model-options": ("fuzz_models:model_options", "tree"),
    "objects": ("fuzz_dicomweb:objects", "dicom"),
    "requests": ("fuzz_dicomweb:requests", ""),
    "walk": ("fuzz_images:walk", ""),
    "pdu": ("fuzz_images:pdu", ""),
}
"""Name -> function that opens the reader on an empty folder, and function of ``fuzz_mutations.py``."""


def opened(name: str, folder: Path) -> AbstractContextManager[Callable[[bytes], None]]:
    """The reader of a target: a function of bytes that raises only what is a finding."""
    module, _, function = TARGETS[name][0].partition(":")
    reader: AbstractContextManager[Callable[[bytes], None]] = getattr(importlib.import_module(module), function)(folder)
    return reader


def examples(name: str) -> list[Path]:
    """The stored examples of a target; findings of the past are among them."""
    return sorted((CORPUS / name).iterdir())
