"""TLS within HTTP by `Upgrade: TLS/1.2` (RFC 2817): a token that nobody but the two ends knows.

    tls_upgrade.py serve PORT CERTIFICATE     the file has the key too
    tls_upgrade.py ask HOST PORT CERTIFICATE
"""

import hashlib
import socket
import ssl
import sys

SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: TLS/1.2, HTTP/1.1\r\nConnection: Upgrade\r\n\r\n"
# More than a TLS record, a socket buffer or one read holds.
SECRET = b"".join(n.to_bytes(4, "big") for n in range(1_000_000))


def head(connection: socket.socket) -> bytes:
    """Byte by byte: what follows belongs to TLS."""
    received = b""
    while not received.endswith(b"\r\n\r\n"):
        received += connection.recv(1) or sys.exit(f"ended in the head: {received}")
    return received


def all_of(connection: socket.socket, length: int) -> bytes:
    received = bytearray()
    while len(received) < length and (more := connection.recv(65_536)):
        received += more
    return bytes(received)


def serve(port: int, certificate: str) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    with socket.create_server(("", port)) as listener:
        while True:
            connection, _ = listener.accept()
            assert b"\r\nUpgrade: TLS/1.2\r\n" in head(connection)
            connection.sendall(SWITCH)
            with context.wrap_socket(connection, server_side=True) as secure:
                secure.sendall(hashlib.sha256(all_of(secure, len(SECRET))).digest() + SECRET)


def ask(host: str, port: int, certificate: str) -> None:
    with socket.create_connection((host, port)) as connection:
        connection.sendall(b"OPTIONS * HTTP/1.1\r\nHost: inside\r\nUpgrade: TLS/1.2\r\nConnection: Upgrade\r\n\r\n")
        assert head(connection) == SWITCH
        context = ssl.create_default_context(cafile=certificate)
        with context.wrap_socket(connection, server_hostname="inside") as secure:
            secure.sendall(SECRET)
            assert all_of(secure, 32 + len(SECRET)) == hashlib.sha256(SECRET).digest() + SECRET
            print("both ways in", secure.version())


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(int(sys.argv[2]), sys.argv[3])
    else:
        ask(sys.argv[2], int(sys.argv[3]), sys.argv[4])
