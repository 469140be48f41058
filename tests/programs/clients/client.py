"""Makes the exchanges of a plan with one of Python's HTTP clients and prints what it got.

    client.py http.client|requests|httpx|aiohttp URL PLAN

A plan has one exchange a line: method, target, body ("-", "length" or "chunked") and header fields, with tabs between.
"""

import asyncio
import sys
from pathlib import Path

PIECES = [b"hello, ", b"\0 and ", b"goodbye\r\n"]


def main() -> None:
    client, base, plan = sys.argv[1:]
    exchanges = [line.split("\t") for line in Path(plan).read_text().splitlines()]
    CLIENTS[client](base, [(m, t, b, [tuple(f.split(": ", 1)) for f in fields]) for m, t, b, *fields in exchanges])


def show(method: str, target: str, status: int, body: bytes) -> None:
    print(method, target, status, body, flush=True)


def pieces():
    yield from PIECES


def body_of(kind: str):
    return {"-": None, "length": b"".join(PIECES), "chunked": pieces()}[kind]


def http_client(base: str, exchanges: list) -> None:
    import http.client

    connection = http.client.HTTPConnection(base.removeprefix("http://"))
    for method, target, kind, fields in exchanges:
        connection.putrequest(method, target)
        for name, value in fields:
            connection.putheader(name, value)
        if kind == "chunked":
            connection.putheader("Transfer-Encoding", "chunked")
        elif kind == "length":
            connection.putheader("Content-Length", str(len(body_of(kind))))
        connection.endheaders(body_of(kind), encode_chunked=kind == "chunked")
        response = connection.getresponse()
        show(method, target, response.status, response.read())


def requests(base: str, exchanges: list) -> None:
    import requests

    session = requests.Session()
    for method, target, kind, fields in exchanges:
        request = session.prepare_request(requests.Request(method, base, headers=dict(fields), data=body_of(kind)))
        request.url = base + target  # as it is, where requests would tidy it up
        response = session.send(request)
        show(method, target, response.status_code, response.content)


def httpx(base: str, exchanges: list) -> None:
    import httpx

    with httpx.Client() as client:
        for method, target, kind, fields in exchanges:
            response = client.request(method, base + target, headers=fields, content=body_of(kind))
            show(method, target, response.status_code, response.content)


def aiohttp(base: str, exchanges: list) -> None:
    import aiohttp
    from yarl import URL

    async def stream():
        for piece in PIECES:
            yield piece

    async def run() -> None:
        async with aiohttp.ClientSession() as session:
            for method, target, kind, fields in exchanges:
                url = URL(base + target, encoded=True)
                data = stream() if kind == "chunked" else body_of(kind)
                async with session.request(method, url, headers=fields, data=data) as response:
                    show(method, target, response.status, await response.read())

    asyncio.run(run())


CLIENTS = {"http.client": http_client, "requests": requests, "httpx": httpx, "aiohttp": aiohttp}

if __name__ == "__main__":
    main()
