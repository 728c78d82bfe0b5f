"""Routing: when a series is complete, which rules match it, which series of a study is used, and what follows."""
