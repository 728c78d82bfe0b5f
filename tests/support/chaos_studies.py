"""What the tests of chaos send, and the rules for it."""

from __future__ import annotations

IMAGES = 3
"""Of each study."""
ANALYSED = 5
"""Every fifth study is a CT and analysed; all are sent on."""
RULES = """
[[rules]]
name = "send everything on"
send = ["pacs"]
[[rules]]
name = "analyse CT"
pipelines = ["bright"]
destinations = ["pacs"]
[rules.match]
Modality = "CT"
"""
