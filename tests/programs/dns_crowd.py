#!/usr/bin/env python3
"""Asks for a thousand names at once, each from a port of its own, and looks at each answer.

    dns_crowd.py SERVER

As the C library does, it asks again where no answer comes in time, or that there was a failure: a thousand datagrams are more
than a server's socket holds.
"""

import resource
import selectors
import socket
import struct
import sys

COUNT = 1000
TRIES = 8
PATIENCE_SECONDS = 5
SERVER_FAILURE = 2


def main() -> int:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 8192), most))
    selector = selectors.DefaultSelector()
    waiting = {}
    for number in range(COUNT):
        asker = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        asker.connect((sys.argv[1], 53))
        selector.register(asker, selectors.EVENT_READ, number)
        waiting[number] = asker
    right = 0
    for _ in range(TRIES):
        for number, asker in waiting.items():
            asker.send(query(number))
        while waiting and (events := selector.select(PATIENCE_SECONDS)):
            for key, _ in events:
                answer = key.fileobj.recv(4096)
                if answer[3] & 15 == SERVER_FAILURE:
                    continue
                right += is_right(answer, key.data)
                selector.unregister(key.fileobj)
                waiting.pop(key.data).close()
    print(f"{right} right")
    return 0


def query(number: int) -> bytes:
    # The same identifier for all: it is the socket that tells them apart.
    return struct.pack(">6H", 7, 0x0100, 1, 0, 0, 0) + name(number) + struct.pack(">2H", 1, 1)


def name(number: int) -> bytes:
    label = f"n{number}".encode()
    return bytes([len(label)]) + label + b"\x04test\x00"


def is_right(answer: bytes, number: int) -> bool:
    address = bytes([10, 1, number // 256, number % 256])
    return answer[:2] == b"\x00\x07" and name(number) in answer and answer.endswith(address)


if __name__ == "__main__":
    sys.exit(main())
