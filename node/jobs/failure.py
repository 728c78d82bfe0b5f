"""Failure of an attempt: the message that is shown and the traceback that is logged."""

from __future__ import annotations

from node.errors import InternalError, NodeError


def shown_message(error: Exception, job_id: str) -> str:
    """Return the message to show: that of an error of the node, never one of Python or a library.

    As a database takes it: without NUL, and valid in UTF-8.
    """
    if not isinstance(error, NodeError) or isinstance(error, InternalError):
        return f"internal error; the log of job {job_id} has the details"
    return str(error).replace("\0", "").encode("utf-8", "replace").decode()


def logged_error(error: BaseException) -> BaseException | None:
    """The error when its traceback belongs in the log: it, or what it was made of, may be a fault of our own."""
    if not isinstance(error, NodeError):
        return error
    cause: BaseException | None = error
    while isinstance(cause, NodeError):
        cause = cause.__cause__
    return None if cause is None or isinstance(cause, OSError) else error
