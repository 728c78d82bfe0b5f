"""Whether this machine has the letters of the captions that its destinations get."""

from __future__ import annotations

from collections.abc import Iterator

from node.check import Check
from node.config import Config, Language
from node.results.picture_text import caption_language
from node.translation import gettext


def fonts(config: Config) -> Iterator[Check]:
    """Report that captions of key images are English, because no typeface with Chinese letters is installed."""
    chinese = [name for name, to in config.destinations.items() if to.language == "zh"]
    languages: tuple[Language, ...] = ("zh",)
    if chinese and caption_language(languages) != "zh":
        yield Check(
            name="typeface",
            good=True,
            found=gettext(
                "no typeface with Chinese letters: captions of key images for {destinations} are in English",
                destinations=", ".join(chinese),
            ),
            remedy=gettext("install Noto Sans CJK (Debian: fonts-noto-cjk) on every machine that encodes results"),
        )
