"""Rules that an administrator mistypes and forms that a stranger sends: stored examples, mutated by the thousand.

``python tests/support/fuzz_parsers.py --seconds 600 --seed 7`` runs for long and reports what it found; a part of it
runs in the suite (``test_fuzz_parsers.py``). A finding is an exception other than a refusal, an answer of 500, or a
slow one.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from dashboards import Dashboard, analysed, dashboard_on, paths_of, token
from fuzz_receive import CORPUS, mutate_bytes
from pydicom import Dataset

from node.config import parse
from node.errors import ConfigError
from node.routing.rules import Origin, SeriesHeader, decide

SLOW_SECONDS = 5.0
_SIGNS = "*?-.,:;[](){}|+^$0123456789aCTre \u00e4\u4e00"
RULE = '[pipelines.p]\n[destinations.a]\ntitle = "A"\nhost = "h"\nport = 1\n[[rules]]\nname = "r"\npipelines = ["p"]\n'
RULE += 'destinations = ["a"]\n[rules.match]\n'


def stored(kind: str) -> list[bytes]:
    """The examples of ``tests/support/corpus/KIND``."""
    return [path.read_bytes() for path in sorted((CORPUS / kind).iterdir())]


def mutate_rule(rng: random.Random, example: bytes) -> bytes:
    """Mostly signs of the language at other places, so that more than the reader of TOML is reached."""
    if rng.random() < 0.2:
        return mutate_bytes(rng, example)
    text = example.decode()
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = rng.randrange(text.index("=") + 3, len(text) - 1) if len(text) - 1 > text.index("=") + 3 else len(text) - 2
        text = text[:at] + rng.choice(_SIGNS) + text[at + rng.randrange(2) :]
    return text.encode()


def header() -> Dataset:
    """What the rules are asked about: long texts invite expressions that never end."""
    dataset = Dataset()
    dataset.Modality, dataset.Rows, dataset.SliceThickness = "CT", 512, "1.25"
    dataset.SeriesDescription, dataset.ImageType = "a" * 60 + "!", ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.StudyTime, dataset.SeriesNumber = "120000", "3"
    return dataset


def try_rule(condition: bytes) -> bool:
    """Whether it is a rule; it must then give a decision. Raises what is a finding."""
    begun = time.thread_time()
    with suppress(ConfigError):
        rules = parse(RULE + condition.decode("utf-8", "replace")).rules
        assert decide(SeriesHeader.of([header()]), rules, Origin()).outcome in ("routed", "ignored", "waiting")
        assert time.thread_time() - begun < SLOW_SECONDS, condition
        return True
    return False


class Forms:
    """Forms for a dashboard, from an operator who is logged in."""

    def __init__(self, dashboard: Dashboard) -> None:
        self._browser = dashboard.browser("otto")
        self._targets = [*paths_of(dashboard, "POST"), "/login"]

    def try_form(self, rng: random.Random, body: bytes) -> int:
        """The status of the answer; most forms carry the right token. Raises what is a finding."""
        if rng.random() < 0.8:
            body = body.replace(b"csrf=x", b"csrf=" + token(self._browser, "/login").encode())
        kinds = ("application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain")
        kind = rng.choice((kinds[0], *kinds))
        answer = self._browser.post(rng.choice(self._targets), content=body, headers={"content-type": kind})
        assert answer.status_code < 500, body
        return answer.status_code


def main() -> None:
    """Mutate until the time is over."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=60.0)
    options.add_argument("--seed", type=int, default=1)
    wanted = options.parse_args()
    rng, rules, bodies = random.Random(wanted.seed), stored("rules"), stored("forms")
    tried = {"rules": 0, "rules that were accepted": 0, "forms": 0}
    end = time.monotonic() + wanted.seconds
    with tempfile.TemporaryDirectory() as folder, dashboard_on(Path(folder), *analysed(Path(folder))) as dashboard:
        forms = Forms(dashboard)
        while time.monotonic() < end:
            for _ in range(10):
                tried["rules that were accepted"] += try_rule(mutate_rule(rng, rng.choice(rules)))
                tried["rules"] += 1
            forms.try_form(rng, mutate_bytes(rng, rng.choice(bodies)))
            tried["forms"] += 1
    print(tried, "no finding")


if __name__ == "__main__":
    main()
