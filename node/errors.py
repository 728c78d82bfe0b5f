"""The one error tree. A message names the field, the value and the remedy; each class has its exit code.

NodeError                 1   anything below, unspecified
├── ConfigError           2   config.toml: unknown key, wrong type, value out of range
├── InputError            3   DICOM that cannot be used: unreadable, wrong UIDs, missing geometry
│   └── IdentityError     3   images of several patients or studies where there should be one
├── PipelineError         4   a pipeline cannot be loaded or broke while running
│   └── WeightsError      4   weights missing, or their SHA-256 is not the pinned one
├── EncodeError           5   findings that cannot become a valid DICOM object
│   └── GateError         5   an encoded object that may not leave the node
├── DeliveryError         6   a destination did not take what it is owed
│   └── UnreachableError  6   it cannot be reached at all
├── LedgerError           7   the ledger cannot be opened, or says something impossible
├── NotFoundError         8   a study, job or pipeline that the ledger or config does not know
├── PlatformError         9   disk, port, device or an installed package is missing
└── InternalError         1   a fault of the node or of a library
"""

from __future__ import annotations

from collections.abc import Collection


class NodeError(Exception):
    """Base of every error the node raises on purpose."""

    exit_code = 1
    code = "node"
    """What names the class in the ledger and between processes: stored, so none is renamed."""
    permanent = False
    """A permanent error is not tried again: the same input would fail the same way."""
    for_radiologist = "the analysis stopped with an error"
    """Why there is no result, for who cannot mend it; continues "NOT ANALYSED: "."""


class ConfigError(NodeError):
    """config.toml says something the node cannot follow."""

    code = "config"
    exit_code = 2
    permanent = True
    for_radiologist = "the node is not set up correctly for this analysis"


class InputError(NodeError):
    """A DICOM file or series that cannot be used as it is."""

    code = "input"
    exit_code = 3
    permanent = True
    for_radiologist = "one image cannot be read"


class IdentityError(InputError):
    """Images that contradict one another on whose they are: no object about them may leave, not even of a failure."""

    code = "identity"
    for_radiologist = "the images contradict one another on whose they are"


class PipelineError(NodeError):
    """A pipeline cannot be loaded or broke while running."""

    code = "pipeline"
    exit_code = 4
    for_radiologist = "the program that analyses the images stopped with an error"


class WeightsError(PipelineError):
    """Weights are missing or differ from their pinned SHA-256."""

    code = "weights"
    permanent = True
    for_radiologist = "the model is missing or was altered"


class EncodeError(NodeError):
    """Findings that cannot become a valid DICOM object."""

    code = "encode"
    exit_code = 5
    permanent = True
    for_radiologist = "the result could not be written as DICOM objects"

    def __init__(self, message: str, kinds: Collection[str] = ()) -> None:
        super().__init__(message)
        self.kinds = frozenset(kinds)
        """Of the objects concerned; empty: nothing can be made of these findings."""


class GateError(EncodeError):
    """An encoded object that may not leave the node."""

    code = "gate"
    for_radiologist = "the result did not pass the checks before sending"


class DeliveryError(NodeError):
    """A destination did not take what it is owed."""

    code = "delivery"
    exit_code = 6


class UnreachableError(DeliveryError):
    """A destination cannot be reached, or takes no association from us."""

    code = "unreachable"


class LedgerError(NodeError):
    """The ledger cannot be opened, or contradicts itself."""

    code = "ledger"
    exit_code = 7
    for_radiologist = "the database of the node did not work"


class NotFoundError(NodeError):
    """A study, job or pipeline that neither ledger nor configuration knows."""

    code = "not found"
    exit_code = 8
    permanent = True
    for_radiologist = "the analysis is not set up on this node"


class PlatformError(NodeError):
    """Disk, port, device or an installed package is missing."""

    code = "platform"
    exit_code = 9
    for_radiologist = "the computer lacks what the analysis needs"


class InternalError(NodeError):
    """A fault of the node or of a library: its message is for the log alone."""

    code = "internal"


_BY_CODE = {one.code: one for one in globals().values() if isinstance(one, type) and issubclass(one, NodeError)}


def error_code(error: BaseException) -> str:
    """The code of an error, also of one that is none of ours."""
    return error.code if isinstance(error, NodeError) else InternalError.code


def error_of(code: str, message: str) -> NodeError:
    """The error that another process reports; one of an unknown code is internal."""
    return _BY_CODE.get(code, InternalError)(message)


def not_analysed(error: BaseException | None, reference: str) -> str:
    """What a report says of an analysis that failed with ``error``; ``None``: nobody knows with which.

    The class alone decides: messages are for who runs the node, who finds them in the log under ``reference``, the
    job. They may hold paths, names and Python.
    """
    why = error.for_radiologist if isinstance(error, NodeError) else NodeError.for_radiologist
    return f"NOT ANALYSED: {why}. Details are in the log of the AI node, job {reference}."
