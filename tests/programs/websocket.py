"""A WebSocket echo and a client that sends it ten thousand messages of mixed size.

    websocket.py serve PORT
    websocket.py ask URL
"""

import asyncio
import sys

from websockets.asyncio.client import connect
from websockets.asyncio.server import serve

MESSAGES = 10_000
# The sizes at which the framing changes, and a large one now and then.
SIZES = [0, 1, 2, 5, 50, 125, 126, 127, 300, 1000]
LARGE, LARGE_EVERY = 65_536, 250


def message(n: int) -> str | bytes:
    size = LARGE if n % LARGE_EVERY == 0 else SIZES[n % len(SIZES)]
    text = (f"{n} " * (size // 2 + 1))[:size]
    return text if n % 2 else text.encode()


async def echo(connection) -> None:
    async for received in connection:
        await connection.send(received)


async def run_server(port: int) -> None:
    async with serve(echo, None, port) as server:
        await server.serve_forever()


async def ask(url: str) -> None:
    async with connect(url) as connection:

        async def send() -> None:
            for n in range(MESSAGES):
                await connection.send(message(n))

        sender = asyncio.create_task(send())
        for n in range(MESSAGES):
            assert await connection.recv() == message(n), f"message {n} came back as another"
        await sender
        await connection.close(1000, "enough")
        print(MESSAGES, "echoed, closed by", connection.close_code, connection.close_reason)


if __name__ == "__main__":
    asyncio.run(run_server(int(sys.argv[2])) if sys.argv[1] == "serve" else ask(sys.argv[2]))
