"""A server whose authentication belongs to the connection, as that of IIS does: NTLM and Negotiate.

    ntlm.py PORT

After the handshake every request on that connection is the user's, whatever it says; the body names the user. It
believes any password: the cases are about whose connection it is. Message layout: [MS-NLMP] 2.2.1.
"""

import base64
import socketserver
import struct
import sys

SIGNATURE = b"NTLMSSP\0"
UNICODE, NTLM = 0x1, 0x200


def challenge() -> str:
    target = struct.pack("<HHI", 0, 0, 48)
    message = SIGNATURE + struct.pack("<I", 2) + target + struct.pack("<I", UNICODE | NTLM) + b"8 bytes!" + bytes(8) + target
    return base64.b64encode(message).decode()


def user_of(message: bytes) -> str:
    length, _, offset = struct.unpack_from("<HHI", message, 36)
    return message[offset : offset + length].decode("utf-16-le" if struct.unpack_from("<I", message, 60)[0] & UNICODE else "ascii")


class Server(socketserver.StreamRequestHandler):
    user = None
    challenged = False

    def handle(self) -> None:
        while self.rfile.readline():
            fields = {}
            while (field := self.rfile.readline()) != b"\r\n":
                name, _, value = field.decode("latin-1").partition(":")
                fields[name.lower()] = value.strip()
            scheme, _, token = fields.get("authorization", "").partition(" ")
            self.answer(scheme, base64.b64decode(token))

    def answer(self, scheme: str, token: bytes) -> None:
        offer = "NTLM"
        if scheme == "Negotiate":
            self.user = token.decode()
        elif scheme == "NTLM" and token[8] == 1:
            self.user, self.challenged, offer = None, True, f"NTLM {challenge()}"
        elif scheme == "NTLM" and not self.challenged:
            self.send("400 Bad Request", "the handshake began on another connection ")
            return
        elif scheme == "NTLM":
            self.user, self.challenged = user_of(token), False
        if self.user:
            self.send("200 OK", f"{self.user} ")
        else:
            self.send("401 Unauthorized", "who? ", f"WWW-Authenticate: {offer}\r\n")

    def send(self, status: str, body: str, field: str = "") -> None:
        self.wfile.write(f"HTTP/1.1 {status}\r\n{field}Content-Length: {len(body)}\r\n\r\n{body}".encode())


if __name__ == "__main__":
    socketserver.ThreadingTCPServer.allow_reuse_address = True
    socketserver.ThreadingTCPServer(("", int(sys.argv[1])), Server).serve_forever()
