"""What is asked of the process that encodes, which alone imports the encoders: workers and senders do not."""

from __future__ import annotations

from pathlib import Path

from node.inference.encode_task import EncodedEmbeddings, EncodedFile, EncodeTask, Encoding, NoteTask


def read_ahead(paths: tuple[Path, ...]) -> None:
    """Read a series that is encoded next; see ``node.inference.encode_sources``."""
    from node.inference import encode_and_check, encode_sources  # noqa: F401 - it is imported ahead as well

    encode_sources.read_ahead(paths)


def encode_analysis(task: EncodeTask) -> Encoding:
    """Encode the analysis of a task; see ``node.inference.encode_and_check``."""
    from node.inference import encode_and_check

    return encode_and_check.encode_analysis(task)


def read_embeddings(task: EncodeTask) -> EncodedEmbeddings | None:
    """Read the embeddings in a handover; see ``node.inference.encode_and_check``."""
    from node.inference import encode_and_check

    return encode_and_check.read_embeddings(task)


def encode_failure(task: EncodeTask) -> Encoding:
    """Encode the report of a failure; see ``node.inference.encode_and_check``."""
    from node.inference import encode_and_check

    return encode_and_check.encode_failure(task)


def encode_note(task: NoteTask) -> EncodedFile:
    """Encode a rejection note; see ``node.inference.encode_and_check``."""
    from node.inference import encode_and_check

    return encode_and_check.encode_note(task)
