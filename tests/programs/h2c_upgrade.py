"""A server that speaks HTTP/1.1, and HTTP/2 after `Upgrade: h2c` (RFC 7540 3.2).

    h2c_upgrade.py PORT

The body of each answer names the protocol that it came in.
"""

import socketserver
import sys

import h2.config
import h2.connection
import h2.events


class Server(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        while self.rfile.readline():
            fields = {}
            while (field := self.rfile.readline()) != b"\r\n":
                name, _, value = field.decode("latin-1").partition(":")
                fields[name.lower()] = value.strip()
            if fields.get("upgrade", "").lower() == "h2c":
                self.wfile.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
                return self.speak_http2(fields["http2-settings"])
            about = "HTTP/1.1, settings sent" if "http2-settings" in fields else "HTTP/1.1"
            self.wfile.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(about)}\r\n\r\n{about}".encode())

    def speak_http2(self, settings: str) -> None:
        connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        connection.initiate_upgrade_connection(settings)
        self.answer(connection, 1)
        while received := self.connection.recv(65_536):
            for event in connection.receive_data(received):
                if isinstance(event, h2.events.RequestReceived):
                    self.answer(connection, event.stream_id)
            self.wfile.write(connection.data_to_send())

    def answer(self, connection, stream: int) -> None:
        connection.send_headers(stream, [(":status", "200"), ("content-length", "6")])
        connection.send_data(stream, b"HTTP/2", end_stream=True)
        self.wfile.write(connection.data_to_send())


if __name__ == "__main__":
    socketserver.ThreadingTCPServer.allow_reuse_address = True
    socketserver.ThreadingTCPServer(("", int(sys.argv[1])), Server).serve_forever()
