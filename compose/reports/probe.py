"""A health check without curl: ends with 0 when a path (/healthz unless named) on a port answers 200 within 3 seconds, else with 1 and the reason.

It runs every few seconds for as long as the service does, so it imports nothing but sockets.
"""

import socket
import sys

path = sys.argv[2] if len(sys.argv) > 2 else "/healthz"
try:
    with socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=3) as connection:
        connection.sendall(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
        status = connection.recv(64).split(b" ")[1:2]
except OSError as error:
    sys.exit(f"error: nothing answers: {error}")
sys.exit(0 if status == [b"200"] else f"error: the answer is {status}")
