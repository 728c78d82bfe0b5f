"""Libraries that a process leaves out because it decodes no pixels.

pydicom imports every decoder that is installed as soon as it is imported itself: 25 MB, and a fifth of what a start
computes. Mako, which Alembic needs, does so with Pygments: 5 MB.
"""

from __future__ import annotations

import sys

_DECODERS = ("gdcm", "PIL", "jpeg_ls", "openjpeg", "pygments", "pylibjpeg", "requests")


def leave_out_decoders() -> None:
    """Make later imports of them fail, so that other libraries go without (importlib, ``sys.modules``)."""
    sys.modules.update(dict.fromkeys(_DECODERS))  # type: ignore[arg-type]
