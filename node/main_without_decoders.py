"""``python -m node.main_without_decoders``: the verbs of ``ainode`` in a process that decodes no pixels itself."""

from __future__ import annotations

from node.process.left_out import leave_out_decoders

leave_out_decoders()

from node.__main__ import main  # noqa: E402

if __name__ == "__main__":
    main()
