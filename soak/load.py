#!/usr/bin/env python3
"""The application of the soak: many small programs at once, of every kind, some of them ill-behaved.

    load.py WORKERS SECONDS SEED

Each worker takes one scenario after the other. Good servers must serve each to the end; what bad ones do is only
counted. Prints a line of JSON at its end: scenario → outcome → how often.
"""

import asyncio
import collections
import json
import random
import resource
import signal
import socket
import struct
import sys

from origin import BODY, GREETING

GOOD, BAD, BLACK_HOLE = "198.18.0.2", "198.18.0.3", "198.18.0.5"
CLOSED_PORT = 7999
# Longer than any deadline of the policy: what takes more hangs.
SCENARIO_SECONDS = 60
BIG = len(BODY)
# A lone zero byte could begin a PostgreSQL start-up, which dragoman waits for the rest of.
RAW = BODY[1:]


class Wrong(Exception):
    """The server's answer is not what was asked for."""


class Client:
    """One connection of an application."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, dice: random.Random):
        self.reader, self.writer, self.dice = reader, writer, dice

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def get(self, path: str, *fields: str) -> bytes:
        """Asks, and returns the body of the answer, which must be a 200."""
        lines = [f"GET {path} HTTP/1.1", "Host: shop.example", *fields, "", ""]
        await self.send("\r\n".join(lines).encode())
        return await self.answer()

    async def answer(self, expected: int = 200) -> bytes:
        status, fields = await self.head()
        body = await self.body(fields)
        if status != expected:
            raise Wrong(f"{status} {fields.get('x-dragoman-cause', '')}".strip())
        return body

    async def head(self) -> tuple:
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines[1:])
        return int(lines[0].split(" ")[1]), {name.lower(): value.strip() for name, _, value in pairs}

    async def body(self, fields: dict) -> bytes:
        if "content-length" in fields:
            return await self.reader.readexactly(int(fields["content-length"]))
        parts = []
        while fields.get("transfer-encoding") == "chunked":
            size = int(await self.reader.readuntil(b"\r\n"), 16)
            if size == 0:
                while await self.reader.readuntil(b"\r\n") != b"\r\n":
                    pass
                break
            parts.append((await self.reader.readexactly(size + 2))[:-2])
        return b"".join(parts)

    def reset(self) -> None:
        plug = self.writer.get_extra_info("socket")
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


def check(is_right: bool, what: str) -> None:
    if not is_right:
        raise Wrong(what)


# What well-behaved programs do, at good servers.

async def kept_alive(client: Client) -> None:
    for _ in range(client.dice.randrange(1, 30)):
        check(await client.get("/ok") == b"ok\n", "another body")


async def closed(client: Client) -> None:
    check(await client.get("/ok", "Connection: close") == b"ok\n", "another body")
    check(await client.reader.read() == b"", "bytes after the end")


async def pipelined(client: Client) -> None:
    count = client.dice.randrange(2, 8)
    await client.send(b"GET /ok HTTP/1.1\r\nHost: a\r\n\r\n" * count)
    for _ in range(count):
        check(await client.answer() == b"ok\n", "another body")


async def download(client: Client) -> None:
    size = client.dice.randrange(BIG)
    check(await client.get(f"/size/{size}") == BODY[:size], "another body")


async def chunked(client: Client) -> None:
    size = client.dice.randrange(200_000)
    check(len(await client.get(f"/chunked/{size}")) == size, "another length")


async def upload(client: Client) -> None:
    size = client.dice.randrange(BIG)
    expect = client.dice.choice(["", "Expect: 100-continue\r\n"])
    await client.send(f"POST / HTTP/1.1\r\nHost: a\r\n{expect}Content-Length: {size}\r\n\r\n".encode())
    if expect:
        status, _ = await client.head()
        check(status == 100, f"{status} in place of 100")
    await client.send(BODY[:size])
    check(int(await client.answer()) == size, "another length")


async def chunked_upload(client: Client) -> None:
    await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    total = 0
    for _ in range(client.dice.randrange(1, 20)):
        size = client.dice.randrange(1, 9000)
        await client.send(b"%x\r\n" % size + BODY[:size] + b"\r\n")
        total += size
    await client.send(b"0\r\n\r\n")
    check(int(await client.answer()) == total, "another length")


async def slow(client: Client) -> None:
    request = b"GET /size/300000 HTTP/1.1\r\nHost: a\r\n\r\n"
    for at in range(len(request)):
        await client.send(request[at : at + 1])
        await asyncio.sleep(0.01)
    status, _ = await client.head()
    check(status == 200, str(status))
    left = 300_000
    while left:
        left -= len(await client.reader.readexactly(min(left, 30_000)))
        await asyncio.sleep(0.02)


async def idle(client: Client) -> None:
    for _ in range(3):
        check(await client.get("/late") == b"ok\n", "another body")
        await asyncio.sleep(client.dice.random())


async def websocket(client: Client) -> None:
    fields = ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: c29haw=="]
    await client.send("\r\n".join(["GET /websocket HTTP/1.1", "Host: a", *fields, "", ""]).encode())
    status, _ = await client.head()
    check(status == 101, str(status))
    await echoed(client)


async def echoed(client: Client) -> None:
    for _ in range(client.dice.randrange(1, 20)):
        data = RAW[: client.dice.choice([1, 10, 1000, 70_000])]
        client.writer.write(data)
        check(await client.reader.readexactly(len(data)) == data, "another echo")


async def greeted(client: Client) -> None:
    check(await client.reader.readexactly(len(GREETING)) == GREETING, "another greeting")
    await echoed(client)


async def half_closed(client: Client) -> None:
    size = client.dice.randrange(1, len(RAW))
    await client.send(RAW[:size])
    client.writer.write_eof()
    check(int(await client.reader.read()) == size, "another length")


async def drained(client: Client) -> None:
    await client.send(RAW[:1])
    check(len(await client.reader.read()) == BIG, "another length")


# What ill-behaved programs do.

async def gone_at_once(_: Client) -> None:
    pass


async def reset_in_head(client: Client) -> None:
    await client.send(b"GET /ok HTTP/1.1\r\nHo")
    client.reset()


async def reset_in_upload(client: Client) -> None:
    await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 900000\r\n\r\n" + BODY[:5000])
    client.reset()


async def reset_in_download(client: Client) -> None:
    await client.send(b"GET /size/1000000 HTTP/1.1\r\nHost: a\r\n\r\n")
    await client.reader.readexactly(5000)
    client.reset()


async def reset_in_echo(client: Client) -> None:
    await client.send(RAW[:50_000])
    await client.reader.readexactly(1)
    client.reset()


async def left_alone(client: Client) -> None:
    """Waits for a server that never speaks, and goes away."""
    await client.send(b"\x01hello")
    await asyncio.sleep(client.dice.random() * 2)


async def malformed(client: Client) -> None:
    await client.send(b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx")
    status, _ = await client.head()
    check(status == 400, str(status))


# What bad servers make of good programs: counted, never wrong.

async def unlucky(client: Client) -> None:
    for _ in range(5):
        await client.get("/size/4000")


async def unlucky_upload(client: Client) -> None:
    await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3000\r\n\r\n" + BODY[:3000])
    await client.answer()


async def opaque(client: Client) -> None:
    await client.send(b"\x01hello")
    await client.reader.readexactly(1)


# Where each goes, how often it is taken, and whether it must end well.
SCENARIOS = [
    (kept_alive, GOOD, 80, 10, True), (closed, GOOD, 80, 6, True), (pipelined, GOOD, 80, 2, True),
    (download, GOOD, 80, 2, True), (chunked, GOOD, 80, 2, True), (upload, GOOD, 80, 2, True),
    (chunked_upload, GOOD, 80, 2, True), (slow, GOOD, 80, 1, True), (idle, GOOD, 80, 2, True),
    (websocket, GOOD, 80, 3, True), (echoed, GOOD, 7000, 4, True), (greeted, GOOD, 7001, 3, True),
    (half_closed, GOOD, 7002, 2, True), (drained, GOOD, 7003, 2, True),
    (gone_at_once, GOOD, 80, 1, True), (gone_at_once, GOOD, 7000, 1, True), (reset_in_head, GOOD, 80, 1, True),
    (reset_in_upload, GOOD, 80, 1, True), (reset_in_download, GOOD, 80, 1, True), (reset_in_echo, GOOD, 7000, 1, True),
    (left_alone, GOOD, 7005, 1, True), (malformed, GOOD, 80, 1, True),
    (unlucky, BAD, 81, 8, False), (unlucky_upload, BAD, 81, 4, False), (opaque, BAD, 7004, 2, False),
    (kept_alive, GOOD, CLOSED_PORT, 1, False), (opaque, GOOD, CLOSED_PORT, 1, False),
    (kept_alive, BLACK_HOLE, 80, 1, False), (opaque, BLACK_HOLE, 7000, 1, False),
]


async def once(scenario, address: str, port: int, dice: random.Random) -> str:
    """Goes through a scenario, and says how it ended."""
    try:
        reader, writer = await asyncio.open_connection(address, port)
    except OSError as error:
        return f"connect: {type(error).__name__}"
    try:
        async with asyncio.timeout(SCENARIO_SECONDS):
            await scenario(Client(reader, writer, dice))
        return "ok"
    except (Wrong, OSError, asyncio.IncompleteReadError) as error:
        return str(error) if isinstance(error, Wrong) else type(error).__name__
    finally:
        writer.close()


async def worker(seed: int, stop: asyncio.Event, tally: dict) -> None:
    dice = random.Random(seed)
    weights = [weight for *_, weight, _ in SCENARIOS]
    while not stop.is_set():
        scenario, address, port, _, must = dice.choices(SCENARIOS, weights)[0]
        outcome = await once(scenario, address, port, dice)
        name = f"{scenario.__name__} {address}:{port}"
        tally["good" if must else "bad"][name][outcome] += 1
        # So that many flows are open, not so that much is done.
        await asyncio.sleep(dice.random() * 0.05)


async def main() -> None:
    workers, seconds, seed = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.call_later(seconds, stop.set)
    tally = {kind: collections.defaultdict(collections.Counter) for kind in ("good", "bad")}
    await asyncio.gather(*(worker(seed * 1000 + n, stop, tally) for n in range(workers)))
    print(json.dumps(tally))


if __name__ == "__main__":
    asyncio.run(main())
