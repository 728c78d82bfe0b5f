"""What is asked of the process that encodes, which alone imports the encoders: workers and senders do not."""

from __future__ import annotations

from node.inference.encode_task import EncodedFile, EncodeTask, Encoding, NoteTask


def encode_analysis(task: EncodeTask) -> Encoding:
    """Encode the analysis of a task; see ``node.inference.confined_encoding``."""
    from node.inference import confined_encoding

    return confined_encoding.encode_analysis(task)


def encode_failure(task: EncodeTask) -> Encoding:
    """Encode the report of a failure; see ``node.inference.confined_encoding``."""
    from node.inference import confined_encoding

    return confined_encoding.encode_failure(task)


def encode_note(task: NoteTask) -> EncodedFile:
    """Encode a rejection note; see ``node.inference.confined_encoding``."""
    from node.inference import confined_encoding

    return confined_encoding.encode_note(task)
