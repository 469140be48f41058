"""An HTTP/2 client as Python programs have it (httpx on h2): 42 requests, and what came back, one line each.

    http2_client.py http://server
"""

import asyncio
import hashlib
import sys

import httpx

SMALL = [bytes([n]) * n * 100 for n in range(40)]
LARGE = bytes(range(256)) * 8000


def line(name: str, response: httpx.Response) -> str:
    cookies = response.headers.get_list("set-cookie")
    digest = hashlib.sha256(response.content).hexdigest()[:12]
    told = response.headers["x-length"], response.headers["x-kind"]
    return f"{name} {response.http_version} {response.status_code} {cookies} {told} {len(response.content)} {digest}"


async def stream(chunk: bytes):
    for _ in range(4):
        yield chunk


async def main(base: str) -> None:
    async with httpx.AsyncClient(http1=False, http2=True, timeout=30) as client:
        calls = [client.post(f"{base}/{n}", content=body) for n, body in enumerate(SMALL)]
        for n, response in enumerate(await asyncio.gather(*calls)):
            assert response.content == SMALL[n]
            print(line(f"small {n}", response))
        print(line("large", await client.put(f"{base}/large", content=LARGE, headers={"Content-Type": "x/y"})))
        print(line("stream", await client.post(f"{base}/stream", content=stream(LARGE))))


asyncio.run(main(sys.argv[1]))
