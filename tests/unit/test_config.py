"""config.toml: the shipped file is the reference, and what is wrong is said with key, value and remedy."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel

from node.config import (
    Ae,
    AeTls,
    Config,
    Destination,
    DestinationTls,
    Devices,
    JobsTable,
    Notify,
    ObjectStoreTable,
    Orders,
    Procedure,
    Retention,
    SeriesTable,
    Storage,
    Web,
    Worklist,
    load,
    parse,
)
from node.config.fetch import Fetch
from node.config.hl7_message import Hl7Message
from node.config.records import Records
from node.config.single_sign_on import Oidc
from node.config.ups import UpsWorklist
from node.errors import ConfigError

SHIPPED = Path(__file__).parents[2] / "config.toml"


def test_the_shipped_file_states_every_default_truthfully():
    shipped = load(SHIPPED)
    for name, model in (
        ("ae", Ae),
        ("storage", Storage),
        ("retention", Retention),
        ("records", Records),
        ("orders", Orders),
        ("series", SeriesTable),
        ("jobs", JobsTable),
        ("devices", Devices),
        ("web", Web),
        ("notify", Notify),
    ):
        assert getattr(shipped, name) == model(), name


@pytest.mark.parametrize(
    "model",
    [
        Ae,
        AeTls,
        Storage,
        ObjectStoreTable,
        Retention,
        Records,
        Orders,
        Worklist,
        UpsWorklist,
        Procedure,
        SeriesTable,
        JobsTable,
        Devices,
        Destination,
        DestinationTls,
        Fetch,
        Hl7Message,
        Web,
        Oidc,
        Notify,
    ],
)
def test_the_shipped_file_shows_every_key(model: type[BaseModel]):
    lines = SHIPPED.read_text().splitlines()
    for key in set(model.model_fields) - {
        "tls",
        "oidc",
        "worklist",
        "ups",
        "object_store",
        "message",
    }:  # tables of their own
        assert any(line.startswith(f"{key} =") and "#" in line for line in lines), f"{model.__name__}.{key}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[ae]\nprot = 104", r"unknown key ae.prot \(did you mean 'port'\?\)"),
        ("[aee]\nport = 104", r"unknown key aee \(did you mean 'ae'\?\)"),
        ('[ae]\nport = "104"', r"ae.port = '104': Input should be a valid integer"),
        ("[ae]\nport = 70000", "ae.port = 70000: Input should be less than or equal to 65535"),
        ('[ae]\ntitle = "A TITLE THAT IS TOO LONG"', "ae.title"),
        ("[series]\nquiet_seconds = 0", "series.quiet_seconds = 0"),
        ("[ae]\nnetwork_timeout_seconds = inf", "network_timeout_seconds = inf: give a number up to 3153600000"),
        ("[web]\nsession_hours = 1e30", r"session_hours = 1e\+30: give a number up to 876000"),
        ("[storage]\nmin_free_gib = 1e30", r"min_free_gib = 1e\+30: give a number up to 1000000000"),
        ("[storage]\nmin_free_gib = nan", "min_free_gib = nan"),
        ('[devices]\nuse = ["gpu0"]', r"devices.use = \('gpu0',\): give \[\"auto\"\], or each device once"),
        ("[devices]\nuse = []", r"devices.use = \(\): give"),
        ('[devices]\nuse = ["cuda:0", "cuda:0"]', "each device once"),
        ('[devices]\nuse = ["auto", "cpu"]', r"give \[\"auto\"\], or"),
        ("[retention]\nunmatched_days = -1", "unmatched_days = -1: give a number of days, 0 or more, or .default."),
        ('[destinations.pacs]\nfolder = "/f"\nkeep_days = "long"', "pacs.keep_days = 'long': give a number of days"),
        ('[destinations.pacs]\ntitle = "P"\nhost = "h"', "destinations.pacs.*: title and port are required with host"),
        (
            '[destinations.pacs]\nurl = "https://h"\nfolder = "/f"',
            "give one of host .*, url .*, folder, hl7 .*fhir",
        ),
        ('[destinations.pacs]\nurl = "ftp://h"', "begins with https:// or http://"),
        ('[destinations.pacs]\nfolder = "/f"\ncommitment = true', "commitment needs host"),
        ('[destinations.pacs]\ntitle = "P"\nhost = "h"\nport = 1\noutcomes = ["finding"]', "outcomes"),
        (
            '[pipelines.nodule]\n[[rules]]\nname = "r"\npipelines = ["nodul"]\ndestinations = []',
            r"names 'nodul', which is not defined \(did you mean 'nodule'\?\)",
        ),
        ("[ae\n", "not valid TOML"),
    ],
)
def test_a_mistake_is_refused_with_key_value_and_remedy(text: str, message: str):
    with pytest.raises(ConfigError, match=message):
        parse(text)


def test_every_mistake_of_a_file_is_said_at_once():
    with pytest.raises(ConfigError) as error:
        parse("[ae]\nprot = 1\n[series]\nquiet = 2")
    assert len(str(error.value).splitlines()) == 2


def test_an_empty_file_is_a_complete_configuration():
    assert parse("") == Config()


def test_a_file_that_cannot_be_read_is_an_error_that_names_it(tmp_path: Path):
    with pytest.raises(ConfigError, match="--config"):
        load(tmp_path / "absent.toml")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ('url = "https://example.org/bucket"', "is not of the form s3://BUCKET/PREFIX"),
        ('url = "s3://bucket/a"\nendpoint = "http://s3.example.org"', "in clear"),
        ('url = "s3://bucket/a"\nendpoint = "https://key:secret@s3.example.org"', "holds credentials"),
        ('url = "s3://bucket/a"\nkms_key = "k"', "kms_key needs"),
    ],
)
def test_an_object_store_that_would_be_unsafe_is_refused(keys: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(f"[storage.object_store]\n{keys}\n")


@pytest.mark.parametrize(
    "keys",
    [
        'url = "s3://key:secret@bucket/a"',
        'url = "s3://bucket/a"\nendpoint = "ftp://key:secret@s3.example.org"',
        'url = "s3://b/a"\nendpoint = "https://key:secret@s3.example.org"',
        'url = "s3://bucket/a"\nendpoint = "https:/key:secret@s3.example.org"',
        'url = "s3://bucket/a"\nendpoint = "https://s3.example.org/?X-Amz-Signature=secret"',
    ],
)
def test_no_message_about_the_object_store_holds_a_secret(keys: str) -> None:
    with pytest.raises(ConfigError, match="holds credentials") as caught:
        parse(f"[storage.object_store]\n{keys}\n")
    assert "secret" not in str(caught.value).replace("credentials_file", "")


def test_http_is_allowed_on_this_machine_and_where_it_is_asked_for() -> None:
    for keys in ('endpoint = "http://127.0.0.1:9000"', 'endpoint = "http://s3.example.org"\nallow_http = true'):
        assert parse(f'[storage.object_store]\nurl = "s3://bucket/a/b"\n{keys}\n').storage.object_store.prefix == "a/b"
