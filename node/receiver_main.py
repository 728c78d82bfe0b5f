"""``python -m node.receiver_main``: the verbs of ``ainode`` in a process that decodes no pixels, for receivers.

pydicom imports every decoder that is installed as soon as it is imported itself: 25 MB that a receiver never uses.
``None`` in ``sys.modules`` makes such an import fail (importlib, ``sys.modules``), and pydicom then goes without.
"""

from __future__ import annotations

import sys

sys.modules.update(dict.fromkeys(("gdcm", "PIL", "jpeg_ls", "openjpeg", "pylibjpeg", "requests")))  # type: ignore[arg-type]

from node.__main__ import main  # noqa: E402

if __name__ == "__main__":
    main()
