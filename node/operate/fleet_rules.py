"""Rules and destinations of a fleet: one machine publishes them in the ledger, each writes them into its own file.

A file takes over each publication once; what somebody edits in it stays until the next one. The ledger keeps which
publication a file has: in it nothing else can be mistaken for another machine's, as in a folder that machines share.
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
from node.config.rules_text import TABLES, rules_text
from node.config.shared_tables import shared_digests
from node.errors import ConfigError, NodeError, PlatformError
from node.ledger.engine import begin_immediate
from node.ledger.published_rules import (
    PublishedRules,
    TakenRules,
    hold_publications,
    known_as_taken,
    newest_rules,
    publish_rules,
    set_taken,
    taken,
)
from node.operate.rules_file import FOLDER, RulesFile, RulesVersion
from node.process.presence import host_name
from node.process.service_manager import notify

logger = logging.getLogger(__name__)

LOOK_SECONDS = 5.0
"""Between two looks for what another machine has published."""
AGAIN_SECONDS = 60.0
"""After which what could not be taken over is tried again."""
_RECENT_SECONDS = 60.0
"""A process that begins so soon after a take-over may have been given the configuration before it."""


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
                set_taken(connection, self._file, publish_rules(connection, written.text, who=who, why=why))
        except sa.exc.SQLAlchemyError as error:
            changed = f"{self.path} was changed" if written else "nothing was changed"
            raise PlatformError(f"{changed}, and not published: {type(error).__name__}; the log says more") from error
        return written

    def publish(self, *, who: str, why: str, replace: int = 0) -> int:
        """Publish the rules and destinations of the file as they are, and return their number.

        Raises ``ConfigError`` when they cannot be taken out of the file, are the newest ones already, or others have
        been published that the file does not have, unless their number is ``replace``.
        """
        text = rules_text(self.whole())
        with self._alone() as (connection, newest, has):
            if newest is None or newest.number != replace:
                self._check_has(newest, has)
            if newest is not None and newest.text == text:
                raise ConfigError(f"rules and destinations of {self.path} are those of number {newest.number} already")
            number = publish_rules(connection, text, who=who, why=why)
            set_taken(connection, self._file, number)
        return number

    def take_over(self) -> TakenRules:
        """Write what was published last into the file unless it has it. Raises ``ConfigError``, ``PlatformError``."""
        with self.engine.connect() as connection:
            known = known_as_taken(connection, self._file)
        if known is not None and known.is_newest:
            return known
        with self._alone() as (connection, newest, has):
            if newest is None or has.is_newest:
                return has
            before = rules_text(self.whole())
            if newest.text != before:
                super().apply(newest.text, instead_of=before, who=newest.who, why=newest.why)
            set_taken(connection, self._file, newest.number)
            logger.info(
                "rules and destinations number %d, published by %s, are in %s", newest.number, newest.who, self.path
            )
        return TakenRules(number=newest.number, age=0.0, is_newest=True)

    @contextmanager
    def _alone(self) -> Iterator[tuple[sa.Connection, PublishedRules | None, TakenRules]]:
        """A transaction in which no other process publishes, or changes the file or what it has."""
        with begin_immediate(self.engine) as connection:
            hold_publications(connection)
            has = taken(connection, self._file)
            yield connection, newest_rules(connection), has

    def _check_has(self, newest: PublishedRules | None, has: TakenRules) -> None:
        if newest is not None and not has.is_newest:
            raise ConfigError(
                f"{newest.who or 'somebody'} has published rules (number {newest.number}) that are not in {self.path}; "
                "they come within seconds, or the log says why they cannot. To put others in their place, use `ainode "
                f"rules publish --replace {newest.number}`"
            )


class RulesWatch:
    """Takes over what is published, and has the supervisor read the file again. Of one process, in one thread."""

    def __init__(self, rules: FleetRules, config: Config) -> None:
        """``config``: as this process has it."""
        self._rules = rules
        self._config = config
        self._number: int | None = None
        self._again_at = 0.0
        self._error = ""

    def look(self) -> None:
        """Look once."""
        if time.monotonic() < self._again_at:
            return
        try:
            has = self._rules.take_over()
        except NodeError as error:
            if str(error) != self._error:
                self._error = str(error)
                logger.error("published rules are not taken over: %s", error)  # noqa: TRY400 - it says all
            self._again_at = time.monotonic() + AGAIN_SECONDS
            return
        is_new = self._is_new(has) if self._number is None else has.number != self._number
        self._number = has.number
        if is_new:
            notify(f"RULES={has.number}")

    def _is_new(self, has: TakenRules) -> bool:
        """Whether the file was changed by a take-over after this process was given its configuration."""
        if has.number == 0 or has.age > _RECENT_SECONDS:
            return False
        read, written = shared_digests(self._config), shared_digests(parse(self._rules.whole(), str(self._rules.path)))
        return any(read[name] != written[name] for name in TABLES)
