"""The error tree of the node. A message names the field, the value and the remedy; each class has an exit code.

NodeError                 1   base class
├── ConfigError           2   config.toml: unknown key, wrong type, value out of range
├── InputError            3   DICOM that cannot be used: unreadable, wrong UIDs, missing geometry
│   ├── IdentityError     3   images of several patients or studies in one series
│   └── ReturnedError     3   what came back from a service outside is not about the images that were sent
├── PipelineError         4   a pipeline cannot be loaded or failed
│   └── WeightsError      4   weights are missing or differ from their pinned SHA-256
├── EncodeError           5   findings cannot be encoded as a valid DICOM object
│   └── GateError         5   an encoded object failed validation and is quarantined
├── DeliveryError         6   a destination refused objects
│   └── UnreachableError  6   a destination cannot be reached
│       └── RejectedError 6   it answers and rejects the association
├── LedgerError           7   the ledger cannot be opened or is inconsistent
├── NotFoundError         8   a study, job or pipeline is unknown
├── PlatformError         9   disk, port, device or an installed package is missing
│   ├── AdmissionError    9   an analysis needs more memory than is free
│   ├── AbsentFileError   9   a file is on a machine that cannot be reached
│   │   └── AbsentStoreError 9   the object store cannot be used
│   ├── ServerAbsentError 9   an inference server does not answer
│   └── ProcessAbsentError 9   a confined process did not answer in time
├── OperatorError         10  nothing is lost, but something waits for an operator
├── TimeLimitError        1   a step took longer than its time limit
└── InternalError         1   a fault of the node or of a library
"""

from __future__ import annotations

from collections.abc import Collection

from node.translation import gettext, marked


class NodeError(Exception):
    """Base class of all expected errors."""

    exit_code = 1
    code = "node"
    """Name of the class in the ledger and between processes; stored, so it must not change."""
    permanent = False
    """A permanent error is not retried: the same input would fail again."""
    for_radiologist = marked("the analysis stopped with an error")
    """Reason in the report, for readers who cannot fix it; follows "NOT ANALYSED: "."""
    retry_seconds: float | None = None
    """Delay before the next attempt where the raiser knows it; ``None``: that of the stage."""
    is_outage = False
    """Nothing was tried, because something else is out of order: attempts go on, however many there were."""


class ConfigError(NodeError):
    """config.toml has an unknown key, a wrong type or an invalid value."""

    code = "config"
    exit_code = 2
    permanent = True
    for_radiologist = marked("the node is not set up correctly for this analysis")


class InputError(NodeError):
    """A DICOM file or series cannot be used."""

    code = "input"
    exit_code = 3
    permanent = True
    for_radiologist = marked("one image cannot be read")


class IdentityError(InputError):
    """Images of one series name different patients or studies; no object about them may be sent."""

    code = "identity"
    for_radiologist = marked("the images name different patients or studies")


class ReturnedError(InputError):
    """What came back from a service outside cannot be used for the images that were sent there."""

    code = "returned"
    for_radiologist = marked("what came back from a service outside does not belong to these images, or is unusable")


class PipelineError(NodeError):
    """A pipeline cannot be loaded or failed."""

    code = "pipeline"
    exit_code = 4
    for_radiologist = marked("the program that analyses the images stopped with an error")


class WeightsError(PipelineError):
    """Weights are missing or differ from their pinned SHA-256."""

    code = "weights"
    permanent = True
    for_radiologist = marked("the model is missing or was altered")


class EncodeError(NodeError):
    """Findings cannot be encoded as a valid DICOM object."""

    code = "encode"
    exit_code = 5
    permanent = True
    for_radiologist = marked("the result could not be written as DICOM objects")

    def __init__(self, message: str, kinds: Collection[str] = ()) -> None:
        super().__init__(message)
        self.kinds = frozenset(kinds)
        """Kinds of the objects concerned; empty: all."""


class GateError(EncodeError):
    """An encoded object failed validation and must not be sent."""

    code = "gate"
    for_radiologist = marked("the result did not pass the checks before sending")


class DeliveryError(NodeError):
    """A destination refused objects."""

    code = "delivery"
    exit_code = 6


class UnreachableError(DeliveryError):
    """A destination cannot be reached or accepts no association."""

    code = "unreachable"
    until_reached = False
    """Whether the next attempt waits for a probe that reaches the destination, at most ``retry_seconds``."""


class RejectedError(UnreachableError):
    """A destination answers and rejects the association (A-ASSOCIATE-RJ)."""

    code = "rejected"


class TimeLimitError(NodeError):
    """A step took longer than its time limit."""

    code = "time limit"
    for_radiologist = marked("the analysis took too long")


class LedgerError(NodeError):
    """The ledger cannot be opened or is inconsistent."""

    code = "ledger"
    exit_code = 7
    for_radiologist = marked("the database of the node did not work")


class NotFoundError(NodeError):
    """A study, job or pipeline is unknown to ledger and configuration."""

    code = "not found"
    exit_code = 8
    permanent = True
    for_radiologist = marked("the analysis is not set up on this node")


class PlatformError(NodeError):
    """Disk, port, device or an installed package is missing."""

    code = "platform"
    exit_code = 9
    for_radiologist = marked("the computer lacks what the analysis needs")


class AdmissionError(PlatformError):
    """An analysis needs more memory than is free; nothing was begun."""

    code = "admission"


class AbsentFileError(PlatformError):
    """A file is on another machine of the fleet, and none that has it can be reached."""

    code = "absent file"
    is_outage = True


class AbsentStoreError(AbsentFileError):
    """The object store does not answer in time, refuses, or is not the one of this node."""

    code = "absent store"


class ServerAbsentError(PlatformError):
    """An inference server does not answer."""

    code = "server absent"
    is_outage = True


class ProcessAbsentError(PlatformError):
    """A confined process did not answer within its time and was killed."""

    code = "process absent"


class OperatorError(NodeError):
    """Nothing is lost or inconsistent, but something waits for an operator."""

    code = "operator"
    exit_code = 10


class InternalError(NodeError):
    """A fault of the node or of a library: its message is for the log alone."""

    code = "internal"


_BY_CODE = {kind.code: kind for kind in globals().values() if isinstance(kind, type) and issubclass(kind, NodeError)}


def error_code(error: BaseException) -> str:
    """The code of an error, also of one that is none of ours."""
    return error.code if isinstance(error, NodeError) else InternalError.code


def error_of(code: str, message: str) -> NodeError:
    """The error that another process reports; one of an unknown code is internal."""
    return _BY_CODE.get(code, InternalError)(message)


def is_lack_of_memory(error: BaseException) -> bool:
    """Whether memory of the host or of a device ran out; not all libraries have a class of their own for it."""
    words = ("out of memory", "can't allocate memory", "allocate memory for requested buffer", "STATUS_ALLOC_FAILED")
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(w in str(error) for w in words))


def not_analysed(code: str, reference: str) -> str:
    """Return the sentence of a report on an analysis that failed with an error of this code.

    Only the class decides. The message, which may contain paths and names, is in the log under ``reference``, the job.
    """
    why = _BY_CODE.get(code, NodeError).for_radiologist
    return gettext(
        "NOT ANALYSED: {why}. Details are in the log of the AI node, job {job}.", why=gettext(why), job=reference
    )
