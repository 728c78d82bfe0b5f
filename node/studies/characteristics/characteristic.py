"""A characteristic of a series: its values, how certain they are, and the attributes that they rest on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from math import isfinite

from pydicom import Dataset

from node.config.characteristics import UNKNOWN
from node.studies.attribute_values import of_each, values_of
from node.wording import written

_LONGEST = 64
"""Characters of a value in a basis."""
_SHOWN = 4
"""Values of an attribute in a basis; of more, the first and their number."""


class Certainty(StrEnum):
    """How far a characteristic can be relied on."""

    CERTAIN = "certain"
    """Computed from the geometry, or stated by an attribute that means just this."""
    LIKELY = "likely"
    """Concluded from physics, such as echo and repetition time."""
    UNKNOWN = "unknown"
    """The headers do not show it, or contradict one another."""


@dataclass(frozen=True, kw_only=True)
class Characteristic:
    """What the headers of a series show about one characteristic."""

    values: tuple[str, ...]
    certainty: Certainty
    basis: tuple[tuple[str, str], ...]
    """Keyword and value of every attribute that it rests on; an empty value: the attribute is absent."""


class Evidence:
    """Attributes of all images of a series, read once each."""

    def __init__(self, images: Sequence[Dataset]) -> None:
        self.images = tuple(images)
        self._texts: dict[str, tuple[str, ...]] = {}

    @cached_property
    def modality(self) -> str:
        """Modality (0008,0060); empty when absent, or not the same in all images."""
        values = self.texts("Modality")
        return values[0] if len(values) == 1 else ""

    def texts(self, path: str) -> tuple[str, ...]:
        """Return the values of an attribute in all images, each once, upper case; empty when it is absent."""
        if path not in self._texts:
            of_images = of_each(self.images, [path.partition(".")[0]], lambda image: values_of(image, path))
            values = (value.upper() for of_image in of_images for value in of_image)
            self._texts[path] = tuple(dict.fromkeys(filter(None, values)))
        return self._texts[path]

    def numbers(self, path: str) -> tuple[float, ...]:
        """Return the finite numbers among ``texts``, ascending."""
        return tuple(sorted({number for text in self.texts(path) if (number := as_number(text)) is not None}))

    def number(self, *paths: str) -> float | None:
        """Return the value of the first attribute that has one; ``None``: absent, or one that differs by more than 20 %.

        Such a series holds images of several kinds, such as echoes.
        """  # noqa: E501 - one sentence
        values = next(filter(None, map(self.numbers, paths)), ())
        if not values or values[-1] - values[0] > 0.2 * abs(values[-1]):
            return None
        return values[len(values) // 2]

    def basis(self, *paths: str) -> tuple[tuple[str, str], ...]:
        """Return attributes with their values, for ``Characteristic.basis``."""
        return tuple((path.rpartition(".")[2], _listed(self.texts(path))) for path in paths)

    def present(self, *paths: str) -> tuple[str, ...]:
        """Return those of the attributes that have a value."""
        return tuple(path for path in paths if self.texts(path))


def certain(values: str | Iterable[str], basis: Iterable[tuple[str, str]]) -> Characteristic:
    """Return a characteristic that is computed or stated."""
    return _characteristic(values, Certainty.CERTAIN, basis)


def likely(values: str | Iterable[str], basis: Iterable[tuple[str, str]]) -> Characteristic:
    """Return a characteristic that is concluded."""
    return _characteristic(values, Certainty.LIKELY, basis)


def unknown(basis: Iterable[tuple[str, str]] = ()) -> Characteristic:
    """Return a characteristic that is not known; ``basis``: what is absent, or not enough."""
    return _characteristic(UNKNOWN, Certainty.UNKNOWN, basis)


def _characteristic(
    values: str | Iterable[str], certainty: Certainty, basis: Iterable[tuple[str, str]]
) -> Characteristic:
    values = (values,) if isinstance(values, str) else tuple(values)
    return Characteristic(values=values, certainty=certainty, basis=tuple(basis))


def as_number(text: str) -> float | None:
    """Return a finite number, ``None`` for anything else."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if isfinite(number) else None


def _listed(values: Sequence[str]) -> str:
    shown = [_short(value) for value in values]
    if len(shown) > _SHOWN:
        return f"{', '.join(shown[:_SHOWN])} and {len(shown) - _SHOWN} more"
    return ", ".join(shown)


def _short(value: str) -> str:
    number = as_number(value)
    return written(number) if number is not None else value[:_LONGEST]
