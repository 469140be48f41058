#!/usr/bin/env python3
"""The servers of the soak: each port has a manner of its own, good or bad.

    origin.py            listens on all addresses, until it is told to end

| Port | Speaks |
|---|---|
| 80 | HTTP/1, by path: /ok, /size/N, /chunked/N, /late, /websocket, any body answered with its length |
| 81 | the same behind a bad mood: the next number of a seed decides between 503, reset, stall, cut body and the answer |
| 7000 | an echo: the client speaks first |
| 7001 | a greeting, then an echo: the server speaks first |
| 7002 | reads to the end, then says how many bytes came: a half-close |
| 7003 | sends a MiB and closes |
| 7004 | reads a little and resets |
| 7005 | takes the connection and says nothing |
"""

import asyncio
import random
import resource
import signal
import socket
import struct

BODY = bytes(range(256)) * 4096
GREETING = b"SSH-2.0-Soak_1.0\r\n"
LONGEST_HEAD_BYTES = 65_536
FATES = random.Random(5)


class Peer:
    """One connection of a client."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self.reader, self.writer = reader, writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    def reset(self) -> None:
        plug = self.writer.get_extra_info("socket")
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def echo(self) -> None:
        while data := await self.reader.read(65_536):
            await self.send(data)


async def echo(peer: Peer) -> None:
    await peer.echo()


async def greeting(peer: Peer) -> None:
    await peer.send(GREETING)
    await peer.echo()


async def count(peer: Peer) -> None:
    total = 0
    while data := await peer.reader.read(65_536):
        total += len(data)
    await peer.send(b"%d\n" % total)


async def source(peer: Peer) -> None:
    await peer.reader.read(1)
    await peer.send(BODY)


async def resets(peer: Peer) -> None:
    await peer.reader.read(1000)
    peer.reset()


async def silent(peer: Peer) -> None:
    await peer.reader.read()


async def good_http(peer: Peer) -> None:
    while await exchange(peer, "answer"):
        pass


async def bad_http(peer: Peer) -> None:
    fates = ["answer"] * 6 + ["busy", "busy", "reset", "stall", "cut", "close"]
    while await exchange(peer, FATES.choice(fates)):
        pass


async def exchange(peer: Peer, fate: str) -> bool:
    """Serves one request; says whether the connection goes on."""
    head = await peer.reader.readuntil(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    method, path, _ = lines[0].split(" ")
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    if fields.get("expect") == "100-continue":
        await peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    if fate == "reset":
        peer.reset()
        return False
    length = await body_length(peer, fields)
    if fate == "stall":
        await asyncio.sleep(1)
        return False
    if fate == "busy":
        await peer.send(b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy")
        return True
    if fate == "cut":
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + BODY[:2500])
        return False
    closes = fate == "close" or fields.get("connection") == "close"
    await answer(peer, method, path, fields, length, closes)
    return not closes


async def body_length(peer: Peer, fields: dict) -> int:
    """Reads the request's body, and returns how long it was."""
    if "content-length" in fields:
        left = total = int(fields["content-length"])
        while left:
            data = await peer.reader.read(min(left, 65_536))
            if not data:
                raise asyncio.IncompleteReadError(b"", left)
            left -= len(data)
        return total
    total = 0
    while "transfer-encoding" in fields:
        size = int(await peer.reader.readuntil(b"\r\n"), 16)
        await peer.reader.readexactly(size + 2)
        total += size
        if size == 0:
            break
    return total


async def answer(peer: Peer, method: str, path: str, fields: dict, length: int, closes: bool) -> None:
    last = "Connection: close\r\n" if closes else ""
    what, _, argument = path.lstrip("/").partition("/")
    if what == "websocket" and "upgrade" in fields:
        await peer.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        await peer.echo()
        return
    if what == "late":
        await asyncio.sleep(0.05)
    if what == "chunked":
        await peer.send(f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-end\r\n{last}\r\n".encode())
        left = int(argument)
        while left:
            size = min(left, FATES.randrange(1, 20_000))
            await peer.send(b"%x\r\n" % size + BODY[:size] + b"\r\n")
            left -= size
        await peer.send(b"0\r\nx-end: yes\r\n\r\n")
        return
    size = int(argument) if what == "size" else None
    body = BODY[:size] if size is not None else (b"%d\n" % length if method == "POST" else b"ok\n")
    await peer.send(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n{last}\r\n".encode() + body)


MANNERS = {
    80: good_http, 81: bad_http, 7000: echo, 7001: greeting, 7002: count, 7003: source, 7004: resets, 7005: silent,
}


def handler(manner):
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await manner(Peer(reader, writer))
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
            pass  # the client went away, or was cut off in the middle
        finally:
            writer.close()

    return serve


async def main() -> None:
    # A crowd of connections at once is a part of the load.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    end = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end.set)
    for port, manner in MANNERS.items():
        await asyncio.start_server(handler(manner), None, port, backlog=4096, limit=LONGEST_HEAD_BYTES)
    await end.wait()


if __name__ == "__main__":
    asyncio.run(main())
