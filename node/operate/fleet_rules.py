"""The shared configuration of a fleet: one machine publishes it in the ledger, each writes it into its own file.

A file takes over each version once; what somebody edits in it stays until the next one, and is reported meanwhile. The
ledger keeps which version a file has: in it nothing else can be mistaken for another machine's, as in a folder that
machines share.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from node.config import Config
from node.config.loader import parse
from node.config.rules_text import changed_config, rules_text, with_files_of, with_rules_text
from node.config.shared_keys import shared_digests
from node.config.shared_settings import differences, pipeline_keys_of_machine, settings_text, with_settings
from node.errors import ConfigError, NodeError, NotFoundError, PlatformError
from node.ledger.audit_events import add_notice
from node.ledger.engine import begin_immediate
from node.ledger.published_rules import (
    REPORT_SECONDS,
    PublishedRules,
    TakenRules,
    hold_publications,
    known_as_taken,
    newest_rules,
    publish_rules,
    published_version,
    report_file,
    set_taken,
    taken,
)
from node.ledger.states import NoticeKind
from node.operate.rules_file import FOLDER, RulesFile, RulesVersion
from node.process.presence import host_name
from node.process.service_manager import notify

logger = logging.getLogger(__name__)

LOOK_SECONDS = 5.0
"""Between two looks for what another machine has published."""
AGAIN_SECONDS = 60.0
"""After which what could not be taken over is tried again."""
_REPORTED = 100
"""Characters of a value in a report to the other machines."""
_RECENT_SECONDS = 60.0
"""A process that begins so soon after a take-over may have been given the configuration before it."""


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """What would be published."""

    text: str
    """Rules and destinations."""
    settings: str | None
    """The other shared values; ``None``: as they were published before."""
    differences: dict[str, tuple[str, str]]
    """Of shared keys: what is published now, and what would be."""
    config: Config
    """The configuration of this machine with it."""
    instead_of: int
    """The version that is published now; 0: none."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FleetRules(RulesFile):
    """The configuration file of one of the machines that share a ledger. What is applied to it is published."""

    engine: sa.Engine

    @classmethod
    def of(cls, engine: sa.Engine, path: Path, storage: Path) -> FleetRules:
        """``path``: of ``config.toml``; ``storage``: the storage folder."""
        return cls(path=path, folder=storage / FOLDER, reload=lambda: None, engine=engine)

    @property
    def _file(self) -> str:
        return f"{host_name()} {self.path.resolve()}"

    def apply(self, part: str, *, instead_of: str, who: str, why: str, tables: str = "") -> RulesVersion:
        """As of any ``RulesFile``, then publish it. Raises ``ConfigError`` too while a publication is not in the file.

        The processes of all machines, of this one too, read their file again within seconds.
        """
        written = None
        try:
            with self._alone() as (connection, newest, has):
                self._check_has(newest, has)
                written = super().apply(part, instead_of=instead_of, who=who, why=why, tables=tables)
                number = publish_rules(connection, written.text, who=who, why=why)
                set_taken(connection, self._file, number, has.settings_number)
        except sa.exc.SQLAlchemyError as error:
            changed = f"{self.path} was changed" if written else "nothing was changed"
            raise PlatformError(f"{changed}, and not published: {type(error).__name__}; the log says more") from error
        return written

    def proposal(self, version: int = 0) -> Proposal:
        """Return what would be published: the shared part of the file, or an earlier version once more.

        Raises ``ConfigError`` when it cannot be taken out of the file, or an earlier version cannot be put into it.
        """
        whole = self.whole()
        with self.engine.connect() as connection:
            newest = newest_rules(connection)
            earlier = published_version(connection, version) if version else None
        if version and earlier is None:
            raise NotFoundError(f"no version {version} was published; `ainode config versions` lists them")
        changed = whole if earlier is None else self._changed(whole, earlier, confirmed=True)  # when it takes it over
        config = parse(changed, str(self.path))
        settings: str | None
        if earlier is None:
            if config.notify.webhook:
                raise ConfigError(
                    "[notify] webhook is not published: whoever reads the ledger could use the address. Write it into "
                    "a file that only the node can read, and name the file in webhook_file, on every machine"
                )
            text, settings = rules_text(whole), settings_text(whole)
        else:
            text, settings = earlier.text, earlier.settings and settings_text(earlier.settings)
        before = "" if newest is None else _joined(newest, "")
        changes = differences(before, f"{settings or ''}\n{text}")
        number = newest.number if newest else 0
        return Proposal(text=text, settings=settings, differences=changes, config=config, instead_of=number)

    def publish(self, proposal: Proposal, *, who: str, why: str, replace: int = 0) -> int:
        """Publish a proposal and return its number; this machine takes over an earlier version as the others do.

        Raises ``ConfigError`` when it is what was published last, something has been published since the proposal, or
        something that the file does not have, unless that is number ``replace``.
        """
        with self._alone() as (connection, newest, has):
            if newest is None or newest.number != replace:
                self._check_has(newest, has)
            self._check_seen(newest, proposal.instead_of)
            if newest is not None and (newest.text, newest.settings) == (proposal.text, proposal.settings):
                raise ConfigError(f"the shared part of {self.path} is that of version {newest.number} already")
            number = publish_rules(connection, proposal.text, who=who, why=why, settings=proposal.settings)
            _note(connection, who, f"published version {number} of the shared configuration: {why}")
            whole = self.whole()
            if (rules_text(whole), settings_text(whole)) == (proposal.text, proposal.settings):
                set_taken(connection, self._file, number, number)
        return number

    def take_over(self, *, confirmed_by: str = "", seen: int = 0) -> TakenRules:
        """Write what was published last into the file unless it has it. Raises ``ConfigError``, ``PlatformError``.

        ``confirmed_by``: an administrator of this machine, who has seen the version of number ``seen``; then all of it
        is written, and in place of edits, too.
        """
        confirmed = bool(confirmed_by)
        with self.engine.connect() as connection:
            known = known_as_taken(connection, self._file)
        if known is not None and known.is_newest and not confirmed:
            return known
        with self._alone() as (connection, newest, has):
            if newest is None or (has.is_newest and not confirmed):
                return has
            if confirmed:
                self._check_seen(newest, seen)
            text = self.whole()
            changed = self._changed(text, newest, confirmed=confirmed)
            if changed != text:
                with self._writing:
                    self._write(text, changed, who=newest.who, why=newest.why, whole=True)
                if lost := sorted(pipeline_keys_of_machine(text) - pipeline_keys_of_machine(changed)):
                    logger.warning("%s has no %s any more; %s keeps the file before", self.path, lost, self.folder)
            set_taken(connection, self._file, newest.number, newest.settings_number)
            if confirmed:
                _note(connection, confirmed_by, f"confirmed version {newest.number} in {self._file}")
            logger.info("version %d, published by %s, is in %s", newest.number, newest.who, self.path)
            return taken(connection, self._file)

    def untaken(self, version: PublishedRules | None) -> dict[str, tuple[str, str]]:
        """Shared keys of the file that are not as in a version: here, published."""
        whole = self.whole()
        return {} if version is None else differences(whole, _joined(version, whole))

    def published(self) -> PublishedRules | None:
        """Return what was published last."""
        with self.engine.connect() as connection:
            return newest_rules(connection)

    def report(self, fault: str) -> None:
        """Have the ledger show what the file has otherwise than published. ``fault``: why it cannot take that over."""
        try:
            untaken = {key: list(map(_shortened, values)) for key, values in self.untaken(self.published()).items()}
        except ConfigError as error:
            untaken, fault = {}, fault or f"{self.path}: {error}"
        with begin_immediate(self.engine) as connection:
            taken(connection, self._file)  # which makes its row
            report_file(connection, self._file, untaken, fault)

    def _changed(self, text: str, version: PublishedRules, *, confirmed: bool = False) -> str:
        """Return the file with a version in it. Raises ``ConfigError`` when it would not be valid, or not confirmed."""
        if version.settings is not None:
            text = with_settings(text, version.settings, confirmed=confirmed)
        part = with_files_of(text, version.text)
        if rules_text(text) != part:
            if not confirmed:
                return changed_config(text, part, str(self.path))[0]
            text = with_rules_text(text, part)
        parse(text, str(self.path))
        return text

    @contextmanager
    def _alone(self) -> Iterator[tuple[sa.Connection, PublishedRules | None, TakenRules]]:
        """A transaction in which no other process publishes, or changes the file or what it has."""
        with begin_immediate(self.engine) as connection:
            hold_publications(connection)
            has = taken(connection, self._file)
            yield connection, newest_rules(connection), has

    def _check_seen(self, newest: PublishedRules | None, number: int) -> None:
        if newest is not None and newest.number != number:
            raise ConfigError(
                f"{newest.who or 'somebody'} has published version {newest.number} meanwhile; look at what differs "
                "from it with `ainode config diff`, and repeat this command"
            )

    def _check_has(self, newest: PublishedRules | None, has: TakenRules) -> None:
        if newest is not None and not has.is_newest:
            raise ConfigError(
                f"{newest.who or 'somebody'} has published version {newest.number}, which is not in {self.path}; it "
                "comes within seconds, or `ainode config diff` says why it cannot. To put this file's in its place, "
                f"use `ainode config publish --replace {newest.number}`"
            )


def _joined(version: PublishedRules, file: str) -> str:
    """A version as one text; shared values that were never published are those of a file."""
    settings = settings_text(file) if version.settings is None else version.settings
    return f"{settings}\n{version.text}"


def _shortened(value: str) -> str:
    return value if len(value) <= _REPORTED else value[: _REPORTED - 3] + "..."


def _note(connection: sa.Connection, who: str, what: str) -> None:
    """Have the audit trail say it."""
    add_notice(connection, NoticeKind.ACT, who=who, detail=what)


class RulesWatch:
    """Takes over what is published, and has the supervisor read the file again. Of one process, in one thread."""

    def __init__(self, rules: FleetRules, config: Config) -> None:
        """``config``: as this process has it."""
        self._rules = rules
        self._config = config
        self._taken_at: float | None = None
        self._again_at = 0.0
        self._error = ""
        self._reported: tuple[object, ...] = ()
        self._report_at = 0.0

    def look(self) -> None:
        """Look once."""
        if time.monotonic() < self._again_at:
            return
        try:
            has = self._rules.take_over()
        except NodeError as error:
            if str(error) != self._error:
                self._error = str(error)
                logger.error("what was published is not taken over: %s", error)  # noqa: TRY400 - it says all
            self._again_at = time.monotonic() + AGAIN_SECONDS
            self._report(self._error, None)
            return
        self._error = ""
        is_new = self._is_new(has) if self._taken_at is None else has.at != self._taken_at
        self._taken_at = has.at
        if has.number:
            self._report("", has)
        if is_new:
            notify(f"RULES={has.number} {has.at}")

    def _report(self, fault: str, has: TakenRules | None) -> None:
        """Report now and then, and at once when the file or what it has is another one than before."""
        status = self._rules.path.stat()
        state = (fault, has and (has.number, has.settings_number), status.st_mtime_ns, status.st_ino)
        if state != self._reported or time.monotonic() >= self._report_at:
            self._rules.report(fault)
            self._reported, self._report_at = state, time.monotonic() + REPORT_SECONDS

    def _is_new(self, has: TakenRules) -> bool:
        """Whether the file was changed by a take-over after this process was given its configuration."""
        if has.number == 0 or has.age > _RECENT_SECONDS:
            return False
        written = parse(self._rules.whole(), str(self._rules.path))
        return shared_digests(self._config) != shared_digests(written)
