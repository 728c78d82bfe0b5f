"""``python -m node.main_without_decoders``: the verbs of ``ainode`` in a process that decodes no pixels itself.

pydicom imports every decoder that is installed as soon as it is imported itself: 25 MB, and a fifth of what a start
computes. Mako, which Alembic needs, does so with Pygments: 5 MB. ``None`` in ``sys.modules`` makes such an import fail
(importlib, ``sys.modules``), and the library then goes without.
"""

from __future__ import annotations

import sys

_UNUSED = ("gdcm", "PIL", "jpeg_ls", "openjpeg", "pygments", "pylibjpeg", "requests")
sys.modules.update(dict.fromkeys(_UNUSED))  # type: ignore[arg-type]

from node.__main__ import main  # noqa: E402

if __name__ == "__main__":
    main()
