"""A server that does not answer: how often, how long it is left alone, and the errors that say so."""

from __future__ import annotations

import time

from node.config import ServedModel
from node.errors import ConfigError, PipelineError, PlatformError, ServerAbsentError
from node.outside.limits import ServerLimits


class ServerPause:
    """Counts the calls of one pipeline that had no answer (circuit breaker), and makes the errors of a call."""

    def __init__(self, pipeline: str, model: ServedModel, limits: ServerLimits) -> None:
        self._pipeline, self._model, self._limits = pipeline, model, limits
        self._failed = 0
        self._paused_until = 0.0

    def check(self) -> None:
        """Raise ``ServerAbsentError`` while the server is left alone."""
        left = self._paused_until - time.monotonic()
        if left > 0:
            raise self._absent(f"did not answer {self._failed} times and is called again in {left:.0f} s", left)

    def answered(self) -> None:
        """Begin to count again."""
        self._failed = 0

    def fails(self, why: str) -> ServerAbsentError:
        """Count one more call without an answer."""
        self._failed += 1
        if self._failed >= self._limits.failures:
            self._paused_until = time.monotonic() + self._limits.pause_seconds
        return self._absent(why, None)

    def not_ready(self, answer: str) -> PlatformError:
        """The server is there, and its model is not."""
        return PlatformError(
            f"pipeline {self._pipeline!r}: {self._model.host} answers {answer} for model {self._model.name!r}; load "
            "the model there, or correct its name in factory"
        )

    def too_long(self, seconds: float) -> PipelineError:
        """The answer did not come in time."""
        return PipelineError(
            f"{self._model.host} took longer than run.seconds = {seconds:g} for pipeline {self._pipeline!r}"
        )

    def too_large(self) -> PipelineError:
        """The answer is beyond its bound."""
        return PipelineError(
            f"{self._model.host} sent more than run.response_mib = {self._limits.response_mib:g}; raise it if the "
            "model returns so much"
        )

    def unusable_file(self, error: Exception) -> ConfigError:
        """A certificate, key or token cannot be read."""
        return ConfigError(f"[pipelines.{self._pipeline}.options.run]: a file cannot be used ({error})")

    def _absent(self, why: str, seconds: float | None) -> ServerAbsentError:
        error = ServerAbsentError(f"pipeline {self._pipeline!r}: the inference server {self._model.host} {why}")
        error.retry_seconds = seconds
        return error
