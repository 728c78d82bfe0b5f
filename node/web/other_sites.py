"""Links on other sites, as in a web PACS that shows a PDF report, to a page of the dashboard.

The session cookie is strict: no browser sends it along such a link, nor along redirects that follow. A page that leads
to the same address is a navigation of this site, and its request has the cookie. Forms still come from our pages only.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from node.web.app_context import AppContext
from node.web.auth import Endpoint
from node.web.return_path import local_path, page_path


def with_links_of_other_sites(context: AppContext, endpoint: Endpoint) -> Endpoint:
    """Return an endpoint that has the browser ask again when it follows a link on another site (Fetch Metadata)."""

    async def asked(request: Request) -> Response:
        headers = request.headers
        follows_link = headers.get("sec-fetch-site") == "cross-site" and headers.get("sec-fetch-mode") == "navigate"
        if request.method == "GET" and follows_link:
            return HTMLResponse(context.render("continue.html", None, following=local_path(page_path(request))))
        return await endpoint(request)

    return asked
