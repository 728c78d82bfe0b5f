"""The page that takes images of a folder, of files or of a ZIP archive from a browser, each file as one request."""

from __future__ import annotations

import json
from collections.abc import Iterator

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from node.errors import NodeError
from node.spool import Draft
from node.translation import gettext
from node.upload import FileKind, FileResult, UploadSummary, upload_medium
from node.web.actions import note
from node.web.app_context import AppContext
from node.web.auth import Authenticator, UserRequest, require

_RESULTS = 50
"""Files of an archive after which the browser hears how far its upload is."""

_LOOK_BYTES = 64 << 20
"""Of a file, after which the free space is looked at again."""


def upload(context: AppContext, user_request: UserRequest) -> Response:
    """Show the page."""
    require(user_request.user, "operate")
    return context.page("upload.html", user_request)


def upload_routes(context: AppContext, authenticator: Authenticator) -> list[Route]:
    """Return the address to which the page sends one file, as the body of a request.

    The response is JSON lines: ``{"done": N}`` while an archive is being stored, then the results, or ``{"error":
    TEXT}``. "Stored" means what it means for every sender: the receiver has answered with Success.
    """

    async def take(request: Request) -> Response:
        user_request = await authenticator.request_of_script(request, "operate")
        draft = await run_in_threadpool(context.spool.drafts.new)
        try:
            async for block in request.stream():
                await run_in_threadpool(_append, context, draft, block)
        except BaseException:
            draft.discard()
            raise
        return StreamingResponse(_lines(context, user_request, draft), media_type="application/x-ndjson")

    return [Route("/upload/file", authenticator.with_token(take), methods=["POST"])]


def _append(context: AppContext, draft: Draft, block: bytes) -> None:
    looked_at, now_at = draft.size // _LOOK_BYTES, (draft.size + len(block)) // _LOOK_BYTES
    if (not draft.size or looked_at != now_at) and context.spool.space().is_below(context.config.storage.min_free_gib):
        raise HTTPException(507, gettext("There is too little free space; images are refused."))
    if block:
        draft.write([block])


def _lines(context: AppContext, user_request: UserRequest, draft: Draft) -> Iterator[str]:
    results: list[FileResult] = []
    try:
        for result in upload_medium(context.config, draft.path, draft.path.parent):
            results.append(result)
            if len(results) % _RESULTS == 0:
                yield _line(done=len(results))
    except NodeError as error:
        yield _line(error=str(error))
    finally:
        draft.discard()
        stored = [result.sop_instance_uid for result in results if result.kind is FileKind.STORED]
        if stored:
            note(context, user_request, f"uploaded {len(stored)} instances, the first is {stored[0]}")
    summary = UploadSummary.of(results)
    yield _line(
        stored=summary.stored,
        other=summary.other,
        refused=summary.reasons,
        present=[result.sop_instance_uid for result in results if result.sop_instance_uid],
        named=[uid for result in results for uid in result.named],
    )


def _line(**values: object) -> str:
    return json.dumps(values) + "\n"
