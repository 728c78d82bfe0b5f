"""Rules and destinations as a part of the file: comments and all other tables stay, and nothing else can be changed."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from dashboards import CONFIG

from node.config.destination import Destination, DestinationTls
from node.config.rules_text import FILE_KEYS, changed_config, rules_text, with_rules_text
from node.errors import ConfigError

SHIPPED = (Path(__file__).parents[2] / "config.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize("text", [CONFIG, SHIPPED, "[web]\nenabled = true\n"])
def test_what_is_put_back_unchanged_leaves_every_value_and_comment(text: str):
    part = rules_text(text)
    assert set(tomllib.loads(part)) == set(tomllib.loads(text)) & {"rules", "destinations"}
    again = with_rules_text(text, part)
    assert tomllib.loads(again) == tomllib.loads(text)
    assert sorted(filter(None, again.splitlines())) == sorted(filter(None, text.splitlines()))
    assert rules_text(again) == part
    assert with_rules_text(again, part) == again


def test_comments_stay_with_their_tables():
    part = rules_text(CONFIG)
    assert part.startswith("# Where results go.\n[destinations.pacs]\n")
    assert "# as the PACS knows itself" in part
    assert "The dashboard." not in part
    changed = with_rules_text(CONFIG, part.replace("104", "4242 # moved"))
    assert "port = 4242 # moved\n" in changed
    assert "# The dashboard.\n[web]\nenabled = true\n" in changed
    assert changed.startswith("# The node of a test.\n[pipelines.nodule]\n")


def test_a_file_that_has_rules_in_two_places_has_them_in_one_afterwards():
    text = '[[rules]]\nname = "a"\nsend = ["p"]\n\n[web]\nenabled = true\n\n[destinations.p]\nfolder = "/x"\n'
    part = rules_text(text)
    assert tomllib.loads(part) == {"rules": [{"name": "a", "send": ["p"]}], "destinations": {"p": {"folder": "/x"}}}
    assert tomllib.loads(with_rules_text(text, part)) == tomllib.loads(text)


OTHERS = {
    "another table": '[web]\naddress = "0.0.0.0"\n',
    "a key before the first table": 'weights = "elsewhere"\n[[rules]]\nname = "a"\nsend = []\n',
    "a pipeline": '[pipelines.mine]\nmodule = "os:system"\n',
    "no TOML": "[[rules]\n",
}


@pytest.mark.parametrize("part", OTHERS.values(), ids=OTHERS)
def test_no_other_table_can_be_changed(part: str):
    with pytest.raises(ConfigError):
        changed_config(CONFIG, rules_text(CONFIG) + part, "config.toml")
    with pytest.raises(ConfigError):
        with_rules_text(CONFIG, part)


@pytest.mark.parametrize("text", ['rules = [{name = "a", send = []}]\n', 'destinations.p.folder = "/x"\n[web]\n'])
def test_a_file_written_otherwise_is_refused_and_not_taken_apart(text: str):
    with pytest.raises(ConfigError, match="edit it on the machine"):
        rules_text(text)


INVALID = {
    "unknown pipeline": ("nodule", "nodul", "nodul"),
    "unknown key": ("match.Modality", "macht.Modality", "unknown key"),
    "bad port": ("104", "104000", "port"),
}


@pytest.mark.parametrize("name", INVALID)
def test_faults_are_those_of_the_file(name: str):
    old, new, words = INVALID[name]
    with pytest.raises(ConfigError, match=words):
        changed_config(CONFIG, rules_text(CONFIG).replace(old, new), "config.toml")


FILES = {
    "a token": '[destinations.other]\nurl = "https://other.example/studies"\ntoken_file = "/var/lib/ainode/salt"\n',
    "a folder": '[destinations.other]\nfolder = "/etc/cron.d"\n',
    "a secret": '[destinations.other]\nfhir = "https://other.example/fhir"\ntoken_url = "https://other.example/token"\n'
    'client_id = "node"\nclient_secret_file = "/var/lib/ainode/salt"\n',
    "a key": '[destinations.other]\ntitle = "O"\nhost = "o"\nport = 104\ntls.key = "/etc/ssl/key"\n',
}


@pytest.mark.parametrize("more", FILES.values(), ids=FILES)
def test_no_file_of_the_machine_can_be_named_that_was_not_named_before(more: str):
    with pytest.raises(ConfigError, match="changed in the file only"):
        changed_config(CONFIG, rules_text(CONFIG) + more, "config.toml")
    changed_config(CONFIG + more, rules_text(CONFIG + more), "config.toml")


TOKENS = {
    "url": 'url = "https://cloud.example/studies"\ntoken_file = "/etc/ainode/token"\n',
    "fhir": 'fhir = "https://cloud.example/fhir"\ntoken_file = "/etc/ainode/token"\n',
    "token_url": 'fhir = "https://cloud.example/fhir"\ntoken_url = "https://login.example/token"\n'
    'client_id = "node"\nclient_secret_file = "/etc/ainode/secret"\n',
}


@pytest.mark.parametrize(
    ("key", "host"), [("url", "cloud"), ("fhir", "cloud"), ("token_url", "cloud"), ("token_url", "login")]
)
def test_a_token_stays_with_its_addresses(key: str, host: str):
    text = f"{CONFIG}[destinations.cloud]\n{TOKENS[key]}"
    with pytest.raises(ConfigError, match="addresses of one with a token"):
        changed_config(text, rules_text(text).replace(f"{host}.example", "evil.example"), "config.toml")


def test_every_key_of_a_destination_that_names_a_file_is_known():
    fields = {**Destination.model_fields, **DestinationTls.model_fields}
    named = {
        name for name in fields if name.endswith(("_file", "folder")) or name in ("certificate", "key", "ca", "crl")
    }
    assert named <= set(FILE_KEYS)


def test_deidentification_is_not_taken_away_or_changed_here():
    table = '[destinations.research]\nurl = "https://r.example/studies"\ndeidentify = "basic"\n'
    text = CONFIG + table
    part = rules_text(text)
    for changed in (
        part.replace('deidentify = "basic"\n', ""),
        part.replace('deidentify = "basic"', 'deidentify = "basic"\ndeidentify_options = ["device identity"]'),
    ):
        with pytest.raises(ConfigError, match="research: deidentify and deidentify_options are changed in the file"):
            changed_config(text, changed, "config.toml")
    assert changed_config(text, part.replace("r.example", "s.example"), "config.toml")[0]


TLS = '[destinations.far]\ntitle = "F"\nhost = "f.example"\nport = 1\ntls = { enabled = true, ca = "/ca.pem" }\n'
WEB = '[destinations.far]\nurl = "https://f.example/dw"\n'


@pytest.mark.parametrize(
    ("table", "old", "new", "lost"),
    [
        (TLS, "enabled = true", "enabled = false", "TLS and tls.check_host"),
        (TLS, "enabled = true", "enabled = true, check_host = false", "tls.check_host"),
        (TLS, TLS.splitlines()[-1], "", "TLS and tls.check_host"),
        (WEB, "https://", "http://", "TLS and tls.check_host"),
    ],
)
def test_encryption_of_a_destination_is_not_given_up_here(table: str, old: str, new: str, lost: str):
    text = CONFIG + table
    part = rules_text(text)
    with pytest.raises(ConfigError, match=f"far: {lost} is given up in the file only"):
        changed_config(text, part.replace(old, new), "config.toml")
    assert changed_config(text, part.replace("f.example", "g.example"), "config.toml")[0]
    assert changed_config(text, rules_text(CONFIG), "config.toml")[0]
