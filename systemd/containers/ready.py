"""End with status 0 when the node answers ``/readyz`` with 200: the health check of a container.

usage: ready.py CONFIG. The dashboard has to be enabled; its port and certificate are those of the configuration.
"""

import http.client
import ssl
import sys
import tomllib
from pathlib import Path


def main(config: str) -> int:
    """Return the exit status."""
    web = tomllib.loads(Path(config).read_text(encoding="utf-8")).get("web", {})
    port = web.get("port", 8080)
    if web.get("certificate"):
        # Of this container itself, by its own address: no name to compare.
        encrypted = ssl._create_unverified_context()  # noqa: S323, SLF001
        connection: http.client.HTTPConnection = http.client.HTTPSConnection("127.0.0.1", port, 10.0, context=encrypted)
    else:
        connection = http.client.HTTPConnection("127.0.0.1", port, 10.0)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        print(answer.read().decode())
    except OSError as error:
        print(f"the dashboard does not answer at port {port}: {error}; [web] enabled must be true")
        return 1
    return 0 if answer.status == http.client.OK else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
