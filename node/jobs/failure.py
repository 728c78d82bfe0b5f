"""What is shown and what is logged of an error that ended an attempt."""

from __future__ import annotations

from node.errors import NodeError


def words_of(error: Exception, job_id: str) -> str:
    """What everybody may read: the words of our own errors, never a message of Python or of a library.

    As a database takes it: without NUL, and valid in UTF-8.
    """
    if not isinstance(error, NodeError):
        return f"internal error; the log of job {job_id} has the details"
    return str(error).replace("\0", "").encode("utf-8", "replace").decode()


def trace_of(error: BaseException) -> BaseException | None:
    """The error when its traceback belongs in the log: it, or what it was made of, may be a fault of our own."""
    if not isinstance(error, NodeError):
        return error
    cause: BaseException | None = error
    while isinstance(cause, NodeError):
        cause = cause.__cause__
    return None if cause is None or isinstance(cause, OSError) else error
