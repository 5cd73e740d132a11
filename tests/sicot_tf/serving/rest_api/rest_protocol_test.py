import contextlib
import http.client
import json
import socket
import subprocess
import sys
import textwrap
import threading
import unittest

from starlette import applications
from starlette import requests
from starlette import responses
from starlette import routing

from sicot_tf.serving.rest_api import rest_server
from tests.helpers import tiny_server

_LONG = 600.0
# More than the buffers of the kernel take.
_HUGE = 30_000_000
_GET = b"GET /fast HTTP/1.1\r\nHost: x\r\n\r\n"
_POST = b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n"


class RestProtocolTest(unittest.TestCase):
    def serve(self, **limits):
        """A server; `codes` gets the answers that no application gave."""
        self.running = threading.Event()
        self.release = threading.Event()
        self.codes = []

        def slow(request: requests.Request) -> responses.Response:
            self.running.set()
            self.release.wait(30)
            return responses.PlainTextResponse("done")

        async def fast(request: requests.Request) -> responses.Response:
            return responses.PlainTextResponse("fast")

        async def huge(request: requests.Request) -> responses.Response:
            return responses.Response(bytes(_HUGE))

        async def echo(request: requests.Request) -> responses.Response:
            try:
                body = await request.body()
            except requests.ClientDisconnect:
                body = b"nobody reads this"
            return responses.Response(body)

        app = applications.Starlette(
            routes=[
                routing.Route("/slow", slow),
                routing.Route("/fast", fast),
                routing.Route("/huge", huge),
                routing.Route("/echo", echo, methods=["POST"]),
            ]
        )
        settings = {"idle_seconds": _LONG, "receive_seconds": _LONG} | limits
        server = rest_server.RestServer(
            app, 0, record=self.codes.append, **settings
        )
        server.start()
        self.addCleanup(lambda: server.stop(20)(30))
        # The last cleanup runs first.
        self.addCleanup(self.release.set)
        return server

    def connect(self, server, host="localhost"):
        client = socket.create_connection((host, server.port), timeout=30)
        self.addCleanup(client.close)
        return client

    def read(self, client):
        """Status and body of the next answer."""
        response = http.client.HTTPResponse(client)
        response.begin()
        with contextlib.closing(response):
            return response.status, response.read()

    def assert_answered(self, client):
        client.sendall(_GET)
        self.assertEqual(self.read(client), (200, b"fast"))

    def assert_refused(self, client, status, text):
        received, body = self.read(client)
        self.assertEqual(received, status)
        self.assertIn(text, json.loads(body)["error"])
        self.assertEqual(client.recv(1), b"")
        self.assertEqual(self.codes, [status])

    def test_slow_requests(self):
        """Breaks if such clients take all connections for ever."""
        for start in (_GET[:20], _POST, _POST + b"x" * 40):
            with self.subTest(start=start):
                client = self.connect(self.serve(receive_seconds=0.2))
                client.sendall(start)
                self.assert_refused(client, 408, "not received within 0.2")

    def test_large_requests_have_longer(self):
        """Breaks if a picture over a slow line is taken for an attack.

        The 2 MB that came are worth 2000 seconds for what is missing.
        """
        client = self.connect(self.serve(receive_seconds=0.1))
        body = b"x" * 2_000_000
        client.sendall(
            b"POST /echo HTTP/1.1\r\nHost: x\r\n"
            b"Content-Length: 2000001\r\n\r\n" + body
        )
        self.assertFalse(threading.Event().wait(0.3))
        client.sendall(b"y")
        self.assertEqual(self.read(client), (200, body + b"y"))

    def test_idle_connections(self):
        """Breaks if they stay for ever, or not as long as they may."""
        server = self.serve(idle_seconds=0.1)
        for num_requests in (0, 1):
            client = self.connect(server)
            for _ in range(num_requests):
                self.assert_answered(client)
            self.assertEqual(client.recv(1), b"")
        client = self.connect(self.serve())
        for _ in range(2):
            self.assert_answered(client)
            threading.Event().wait(0.3)

    def test_answers_that_nobody_takes(self):
        """Breaks if they stay in memory for ever."""
        client = self.connect(self.serve(idle_seconds=0.1))
        client.sendall(_GET.replace(b"fast", b"huge"))
        threading.Event().wait(0.5)
        num_bytes = 0
        with contextlib.suppress(ConnectionError):
            while content := client.recv(2**20):
                num_bytes += len(content)
        self.assertGreater(num_bytes, 0)
        self.assertLess(num_bytes, _HUGE)

    def test_bodies_and_headers_that_stop_early(self):
        """Breaks if a client that miscounted its body is not told."""
        for start, text in (
            (_POST + b"x" * 40, "Request body ends too early"),
            (_GET[:20], "Request header ends too early"),
        ):
            client = self.connect(self.serve())
            client.sendall(start)
            client.shutdown(socket.SHUT_WR)
            self.assert_refused(client, 400, text)

    def test_what_is_no_http(self):
        """Breaks if the answer does not say what was wrong, or is large."""
        for request, status, text in (
            (b"GET / HTTP/1.1\r\n\r\n", 400, "Missing mandatory Host"),
            (b"\x16\x03\x01\x02\r\n\r\n", 400, "illegal request line"),
            (b"GET /" + b"x" * 300_000, 431, "too long"),
            (b"GET / HTTP/1.1\r\n" + b"x" * 9000 + b"\r\n\r\n", 400, "header"),
        ):
            client = self.connect(self.serve())
            client.sendall(request)
            self.assert_refused(client, status, text)

    def test_too_many_connections(self):
        """Breaks if idle ones make no room, or a client is not told."""
        server = self.serve(max_connections=2)
        oldest, other = self.connect(server), self.connect(server)
        for client in (oldest, other):
            self.assert_answered(client)
        third = self.connect(server)
        third.sendall(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        self.assertEqual(oldest.recv(1), b"")
        self.assertTrue(self.running.wait(30))
        other.sendall(_POST)
        other.sendall(b"x" * 50)
        # Its first half has been read once a second connection was served.
        refused = self.connect(server)
        self.assert_refused(refused, 503, "Too many connections")
        other.sendall(b"x" * 50)
        self.assertEqual(self.read(other), (200, b"x" * 100))

    def test_both_families(self):
        """Breaks if the REST port is not found where the gRPC port is."""
        server = self.serve()
        hosts = ["127.0.0.1"]
        if socket.has_dualstack_ipv6():
            hosts.append("::1")
        for host in hosts:
            client = self.connect(server, host)
            self.assert_answered(client)

    def test_the_end(self):
        """Breaks if a restart resets a connection, or keeps its clients."""
        server = self.serve()
        idle = self.connect(server)
        self.assert_answered(idle)
        server.drain()
        closing = self.connect(server)
        self.assert_answered(closing)
        self.assertEqual(closing.recv(1), b"")
        # Not ended before the end.
        self.assert_answered(idle)
        new = self.connect(server)
        wait = server.stop(20)
        threading.Event().wait(0.3)
        self.assert_answered(new)
        wait(30)
        self.assertEqual(self.codes, [])

    def test_running_requests_end_when_it_stops(self):
        """Breaks if a release of the server fails somebody's request, also of
        clients that end their side, as `nc -N`."""
        for sends_no_more in (False, True):
            server = self.serve()
            client = self.connect(server)
            client.sendall(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
            if sends_no_more:
                client.shutdown(socket.SHUT_WR)
            self.assertTrue(self.running.wait(30))
            wait = server.stop(20)
            self.release.set()
            self.assertEqual(self.read(client), (200, b"done"))
            wait(30)
            with self.assertRaises(ConnectionRefusedError):
                self.connect(server)

    def test_port_in_use(self):
        """Breaks if a server without its REST port looks well."""
        port = self.serve().port
        with self.assertRaisesRegex(
            OSError, f"Failed to start HTTP Server at .*{port}"
        ):
            rest_server.RestServer(applications.Starlette(), port)

    def test_no_file_is_left(self):
        """Breaks if the log fills the disk, or the server stays deaf."""
        process = subprocess.Popen(
            [
                *(sys.executable, "-c"),
                textwrap.dedent(
                    """
                    import os, resource, sys
                    from starlette import applications
                    from sicot_tf.serving.rest_api import rest_server
                    server = rest_server.RestServer(
                        applications.Starlette(), 0
                    )
                    server.start()
                    resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))
                    files = []
                    while True:
                        try:
                            files.append(os.dup(0))
                        except OSError:
                            break
                    print(server.port, flush=True)
                    sys.stdin.readline()
                    for file in files:
                        os.close(file)
                    sys.stdin.readline()
                    os._exit(0)
                    """
                ),
            ],
            cwd=tiny_server.PROJECT_DIR,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(process.kill)
        port = int(process.stdout.readline())
        with socket.create_connection(("localhost", port), 30) as client:
            client.sendall(_GET)
            # It is tried a few times meanwhile.
            threading.Event().wait(1.5)
            process.stdin.write("\n")
            process.stdin.flush()
            self.assertEqual(self.read(client)[0], 404)
        _, errors = process.communicate("\n", 30)
        self.assertRegex(
            errors, "\\ANo connection .*Too many open files.*\n\\Z"
        )


if __name__ == "__main__":
    unittest.main()
