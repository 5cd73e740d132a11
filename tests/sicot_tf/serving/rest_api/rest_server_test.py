import http.client
import threading
import unittest

from starlette import applications
from starlette import requests
from starlette import responses
from starlette import routing

from sicot_tf.serving.rest_api import rest_server


class RestServerTest(unittest.TestCase):
    def setUp(self):
        self.running = threading.Event()
        self.release = threading.Event()

        def slow(request: requests.Request) -> responses.Response:
            self.running.set()
            self.release.wait(30)
            return responses.PlainTextResponse("done")

        async def fast(request: requests.Request) -> responses.Response:
            return responses.PlainTextResponse("fast")

        self.app = applications.Starlette(
            routes=[
                routing.Route("/slow", slow),
                routing.Route("/fast", fast),
            ]
        )
        self.server = rest_server.RestServer(self.app, 0, 20)
        self.server.start()
        self.addCleanup(lambda: self.server.stop()(30))
        # The last cleanup runs first.
        self.addCleanup(self.release.set)

    def get(self, path, headers=None):
        connection = http.client.HTTPConnection(
            "localhost", self.server.port, timeout=30
        )
        self.addCleanup(connection.close)
        connection.request("GET", path, headers=headers or {})
        response = connection.getresponse()
        return response.status, response.read()

    def test_running_requests_end_when_it_stops(self):
        """A release of the server fails nobody's request."""
        answers = []
        thread = threading.Thread(
            target=lambda: answers.append(self.get("/slow"))
        )
        thread.start()
        self.assertTrue(self.running.wait(30))
        wait = self.server.stop()
        self.assertEqual(answers, [])
        self.release.set()
        thread.join()
        wait(30)
        self.assertEqual(answers, [(200, b"done")])
        with self.assertRaises(ConnectionRefusedError):
            self.get("/fast")

    def test_huge_headers_are_refused(self):
        """They would fill memory before any handler sees them."""
        try:
            status, _ = self.get("/fast", {"X": "x" * 200_000})
        except ConnectionError:
            # Closed before all of them were sent.
            pass
        else:
            self.assertEqual(status, 431)
        self.assertEqual(self.get("/fast"), (200, b"fast"))

    def test_port_in_use(self):
        """A server without its REST port must not look well."""
        with self.assertRaisesRegex(
            OSError, f"Failed to start HTTP Server at .*{self.server.port}"
        ):
            rest_server.RestServer(self.app, self.server.port, 20)


if __name__ == "__main__":
    unittest.main()
