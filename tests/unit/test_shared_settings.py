"""What the machines of a fleet have in common, taken out of a file and put into another one: nothing else changes."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from node.config.config import Config
from node.config.loader import parse
from node.config.rules_text import FILE_KEYS
from node.config.shared_keys import OPTIONS, PARTS, SHARED, Key, Part, is_like, part_of
from node.config.shared_settings import differences, settings_text, with_settings
from node.errors import ConfigError

SHIPPED = (Path(__file__).parents[2] / "config.toml").read_text(encoding="utf-8")
INSTALL = (Path(__file__).parents[2] / "docs" / "install.md").read_text(encoding="utf-8")
OWN = """\
# Of this machine.
[storage]
folder = "/data"        # a disk of its own
copies = 1

[series]
quiet_seconds = 30.0    # our scanners are slow

[pipelines.lung]
factory = "a.b:create"
weights = "/data/lung.safetensors"
[pipelines.lung.options]
threshold = 0.5         # by the physicist
precision = "half"
[pipelines.lung.options.run]
cpus = 4
"""


def keys(model: type[BaseModel], above: Key = ()) -> Iterator[Key]:
    """Every key of the model down to those that have a part."""
    for name, field in model.model_fields.items():
        key = (*above, name)
        kinds = (field.annotation, *get_args(field.annotation))
        inner = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
        named = inner is not None and inner is not field.annotation
        if inner is None or part_of(key) is not None:
            yield key
        elif named and part_of((*key, "*")) is not None:
            yield (*key, "*")
        else:
            yield from keys(inner, (*key, "*") if named else key)


def test_every_key_of_the_configuration_is_in_exactly_one_part():
    all_keys = list(keys(Config))
    assert len(all_keys) > 150
    parts = {key: [pattern for pattern in PARTS if is_like(key, pattern)] for key in all_keys}
    assert {key: patterns for key, patterns in parts.items() if len(patterns) != 1} == {}
    assert [pattern for pattern in PARTS if not any(is_like(key, pattern) for key in all_keys)] == []


def test_files_and_secrets_are_of_one_machine_or_have_to_be_confirmed():
    named = [key for key in keys(Config) if key[-1].endswith("_file") or key[-1] in {*FILE_KEYS, "file", "weights"}]
    assert {part_of(key) for key in named} == {Part.LOCAL, Part.CONFIRMED}
    assert [key for key in named if part_of(key) == Part.CONFIRMED] == [
        ("notify", "webhook_file"),  # whichever machine sends messages needs one
        ("pipelines", "*", "weights"),
    ]


def test_what_decides_which_roles_run_is_of_one_machine_so_that_a_reload_does_for_all_that_is_shared():
    roles = [("web", "enabled"), ("fleet", "host"), ("orders", "enabled"), ("dicomweb", "enabled"), ("ae", "port")]
    assert {part_of(key) for key in roles} == {Part.LOCAL}


def test_the_page_lists_the_part_of_every_key():
    section = INSTALL.partition("### What is shared")[2].partition("\n### ")[0]
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in section.splitlines() if line.startswith("| `[")
    ]
    listed = {}
    for table, *cells in rows:
        above = tuple(table.strip("`[]").replace("NAME", "*").split("."))
        for part, cell in zip(Part, cells, strict=True):
            names = ["*"] if cell == "all" else re.findall(r"\w+", cell)
            listed |= {above if name == "*" and above in PARTS else (*above, name): part for name in names}
    assert listed == dict(PARTS)


def test_the_shipped_file_marks_the_tables_that_are_shared():
    marks = {}
    for line in SHIPPED.splitlines():
        if line.startswith("["):
            marks.setdefault(re.split(r"[].]", line.strip("["))[0], line.partition("# (")[2].partition(")")[0])
    parts = {name: {PARTS[key] for key in PARTS if key[0] == name} for name in marks}
    assert {name for name in marks if "shared" in marks[name]} == set(SHARED)
    assert {name for name in marks if marks[name] == "partly shared"} == {
        name for name in SHARED if Part.LOCAL in parts[name]
    }


@pytest.mark.parametrize("text", [SHIPPED, OWN], ids=["shipped", "own"])
def test_what_is_put_back_unchanged_leaves_every_character(text: str):
    assert with_settings(text, settings_text(text)) == text
    assert differences(text, text) == {}


def test_shared_values_are_taken_over_and_comments_and_what_is_of_the_machine_stay():
    other = OWN.replace("30.0", "45.0").replace("copies = 1", "copies = 2").replace("0.5 ", "0.6 ")
    other = other.replace('"/data"', '"/elsewhere"').replace("cpus = 4", "cpus = 9").replace("/data/lung", "/opt/lung")
    changed = with_settings(OWN, settings_text(f"{other}[retention]\ndays = 3.0\n[devices]\nuse = ['cpu']\n"))
    expected = OWN.replace("30.0", "45.0").replace("copies = 1", "copies = 2").replace("0.5 ", "0.6 ")
    assert changed.startswith(expected)
    assert tomllib.loads(changed.removeprefix(expected)) == {"retention": {"days": 3.0}}


def test_what_is_not_published_is_the_default_again_with_its_comment():
    changed = with_settings(OWN.replace("30.0", "99.0"), settings_text(OWN.replace("quiet_seconds", "# quiet_seconds")))
    assert changed == OWN
    assert "threshold" not in with_settings(OWN, settings_text(OWN.replace("threshold", "# threshold")))


def test_a_pipeline_comes_and_goes_as_a_whole():
    more = OWN + '[pipelines.brain]\nafter = "lung"\n[pipelines.brain.options]\nsteps = 3\n'
    more += '[procedures.p]\ncode = "C"\nscheme = "S"\npipeline = "lung"\n'
    changed = with_settings(OWN, settings_text(more))
    assert tomllib.loads(changed) == tomllib.loads(more)
    assert tomllib.loads(with_settings(more, settings_text(OWN))) == tomllib.loads(OWN)
    without = with_settings(OWN, settings_text(OWN.partition("[pipelines")[0]))
    assert tomllib.loads(without) == tomllib.loads(OWN.partition("[pipelines")[0])


def test_pipelines_in_different_places_of_the_file_can_be_changed():
    text = '[pipelines.a]\ntitle = "A"\n\n[web]\nport = 9\n\n[pipelines.b]\ntitle = "B"   # b\n'
    other = '[pipelines.a]\ntitle = "A"\n[pipelines.b]\ntitle = "C"\n[pipelines.c]\ntitle = "D"\n'
    changed = with_settings(text, settings_text(other))
    assert tomllib.loads(changed) == tomllib.loads(other) | {"web": {"port": 9}}
    assert 'title = "C"   # b\n' in changed


SAFE = f'strict = true\nsha256 = "{64 * "0"}"\natlas = "/data/atlas"\n'
DELICATE = {
    "a program": ('factory = "a.b:create"', 'factory = "os:system"', "pipelines.lung.factory"),
    "a model": ('sha256 = "0', 'sha256 = "1', "pipelines.lung.options.sha256"),
    "a file in an option": ("threshold = 0.5 ", 'labels = "/etc/shadow" #', "pipelines.lung.options.labels"),
    "a name of a file": ("threshold = 0.5 ", 'token_file = "salt" #', "pipelines.lung.options.token_file"),
    "an address": ("threshold = 0.5 ", 'server = "evil.example:80" #', "pipelines.lung.options.server"),
    "code": ("threshold = 0.5 ", 'overrides = { a = "$import os" } #', "pipelines.lung.options.overrides"),
    "a class": ("threshold = 0.5 ", 'overrides = { a = { _target_ = "x" } } #', "pipelines.lung.options.overrides"),
    "a switch as a number": ("strict = true", "strict = 0", "pipelines.lung.options.strict"),
    "a switch as a text": ("strict = true", 'strict = "false"', "pipelines.lung.options.strict"),
    "no switch": ("strict = true", "# strict", "pipelines.lung.options.strict"),
    "no digest": ("sha256 = ", "# sha256 = ", "pipelines.lung.options.sha256"),
    "no file in an option": ('atlas = "/data/atlas"', 'atlas = "none"', "pipelines.lung.options.atlas"),
    "a switch": ("threshold = 0.5 ", "unpickle = true #", "pipelines.lung.options.unpickle"),
    "no weights": ("weights = ", "# weights = ", "pipelines.lung.weights"),
    "a process in common": ("weights", 'trust_group = "g"\nweights', "pipelines.lung.trust_group"),
    "a new pipeline of a program": ("# Of", '[pipelines.x]\nfactory = "os:system"\n# Of', "pipelines.x.factory"),
    "a new pipeline with weights": ("# Of", '[pipelines.x]\nweights = "/opt/x"\n# Of', "pipelines.x.weights"),
    "who gets the password": ("# Of", '[notify]\nsmtp_host = "evil.example"\n# Of', "notify.smtp_host"),
    "a file with an address": ("# Of", '[notify]\nwebhook_file = "/etc/hook"\n# Of', "notify.webhook_file"),
    "the audit trail": ("# Of", '[audit]\nsyslog = "udp://evil.example:9"\n# Of', "audit.syslog"),
    "a store": ("copies = 1", 'copies = 1\n[storage.object_store]\nurl = "s3://evil"', "storage.object_store.url"),
    "no search for text": ("# Of", "[deidentify]\nread_text = true\n# Of", "deidentify.read_text"),
    "a mask": ("# Of", "[deidentify]\nmasks = [{ rows = 1 }]\n# Of", "deidentify.masks"),
    "a worklist with a token": ("# Of", '[orders.ups]\nurl = "https://evil.example"\n# Of', "orders.ups.url"),
}  # fmt: skip


@pytest.mark.parametrize("name", DELICATE)
def test_what_names_programs_files_or_addresses_is_only_taken_over_when_it_is_confirmed(name: str):
    old, new, key = DELICATE[name]
    own = OWN.replace("[pipelines.lung.options.run]", f"{SAFE}[pipelines.lung.options.run]")
    published = settings_text(own.replace(old, new, 1))
    with pytest.raises(ConfigError, match=r"ainode config take") as error:
        with_settings(own, published)
    assert key in str(error.value)
    assert settings_text(with_settings(own, published, confirmed=True)) == published


@pytest.mark.parametrize("confirmed", [False, True])
def test_how_a_container_runs_is_never_taken_over_not_even_with_a_new_pipeline_of_a_known_program(*, confirmed: bool):
    """As who writes to the ledger publishes it: ``settings_text`` takes no such value out of a file."""
    run = '[pipelines.{0}.options.run]\nengine = "nsenter podman"\ncommand = ["sh"]\n'
    new = f'[pipelines.x]\nfactory = "a.b:create"\n{run.format("x")}'
    changed = with_settings(OWN, settings_text(OWN) + run.format("lung") + new, confirmed=confirmed)
    pipelines = tomllib.loads(changed)["pipelines"]
    assert pipelines == tomllib.loads(OWN)["pipelines"] | {"x": {"factory": "a.b:create"}}


def test_plain_values_of_options_need_no_confirmation():
    options = 'precision = "full"\nlabels = ["Liver", "left kidney"]\nsize = [1, 2]\nnested = { a = 1.5, b = "x" }\n'
    other = OWN.replace('precision = "half"\n', options)
    assert tomllib.loads(with_settings(OWN, settings_text(other))) == tomllib.loads(other)


def test_differences_are_named_with_both_values_and_without_secrets():
    rules = '[[rules]]\nname = "chest"\npipelines = ["lung"]\n'
    here = OWN + rules + '[notify]\nwebhook = "https://chat.example/one"\n'
    there = (
        OWN.replace("30.0", "45.0")
        + rules.replace('"lung"', '"lung", "b"')
        + "[web]\nport = 1\n[jobs]\nmax_attempts = 3\n"
    )
    assert differences(here, there) == {
        "rules.chest.pipelines": ('["lung"]', '["lung", "b"]'),
        "series.quiet_seconds": ("30.0", "45.0"),
    }


def test_an_address_that_is_a_secret_is_neither_published_nor_taken_from_an_older_publication():
    hook = '[notify]\nwebhook = "https://chat.example/s3cret"\n'
    assert settings_text(OWN + hook) == settings_text(OWN)
    assert with_settings(OWN, settings_text(OWN) + hook, confirmed=True) == OWN
    assert with_settings(OWN + hook, settings_text(OWN), confirmed=True) == OWN + hook


def test_who_confirms_sees_values_whole_and_each_key_in_a_line_of_its_own():
    there = OWN.replace('"half"', f'"{99 * "a"} and /etc/shadow"\n"a\\n  series.quiet_seconds" = "/x"')
    assert differences(OWN, there) == {
        "pipelines.lung.options.precision": ('"half"', f'"{99 * "a"} and /etc/shadow"'),
        r"pipelines.lung.options.a\n  series.quiet_seconds": ("-", '"/x"'),
    }


def test_tables_in_pieces_that_cannot_be_changed_are_named_and_nothing_else_fails():
    pieces = (
        "[pipelines.b.options]\nq = 1\n[ae]\nport = 1\n[pipelines]\n[jobs]\n[pipelines.b.stop]\nexpected_ppv = 0.8\n"
    )
    pieces += 'stop_ppv = 0.5\n[web]\nport = 1\n[pipelines.b]\ntitle = "A"\n'
    with pytest.raises(ConfigError, match="write each table once"):
        with_settings(pieces, "")


def test_tables_of_another_form_are_refused():
    with pytest.raises(ConfigError, match="pipelines = 5"):
        with_settings(OWN, "pipelines = 5")


def test_destinations_differ_by_their_keys_and_not_by_defaults_that_are_written_out():
    here = '[destinations.pacs]\nhost = "h"\nport = 104\ncommitment = false\n'
    there = '[destinations.pacs]\nhost = "h"\nport = 105\n[destinations.pacs.tls]\nenabled = true\n'
    assert differences(here, there) == {
        "destinations.pacs.port": ("104", "105"),
        "destinations.pacs.tls.enabled": ("-", "true"),
    }


def test_what_is_taken_over_is_what_the_node_reads():
    own: dict[str, Any] = tomllib.loads(SHIPPED)
    changed = with_settings(SHIPPED, settings_text(SHIPPED.replace("quiet_seconds = 30.0", "quiet_seconds = 7.5", 1)))
    before, after = parse(SHIPPED), parse(changed)
    assert (after.series.quiet_seconds, after.model_copy(update={"series": before.series})) == (7.5, before)
    assert tomllib.loads(changed)["web"] == own["web"]


def test_options_are_looked_at_one_by_one():
    assert (part_of((*OPTIONS, "run")), part_of((*OPTIONS, "threshold"))) == (Part.LOCAL, Part.SHARED)
