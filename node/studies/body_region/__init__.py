"""Which regions of the body a CT series shows, recognized in its pixels: a small network, run with numpy."""
