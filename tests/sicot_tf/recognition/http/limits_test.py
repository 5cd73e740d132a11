import asyncio
import pathlib
import tempfile
import unittest

import httpx
import starlette.exceptions

from sicot_tf.recognition import answers
from sicot_tf.recognition import model_server
from sicot_tf.recognition import settings
from sicot_tf.recognition.http import app
from sicot_tf.recognition.http import limits
from sicot_tf.recognition.http import metrics
from sicot_tf.recognition.http import service
from sicot_tf.recognition.http import visitors
from sicot_tf.recognition.releases import live_release
from sicot_tf.recognition.releases import live_releases
from sicot_tf.recognition.releases import releases
from sicot_tf.recognition.stages import pictures
from tests.helpers import tiny_recognizer
from tests.helpers import tiny_server

_KEYS = ("first-key-0123456789", "second-key-0123456789")


class LimitsTest(unittest.IsolatedAsyncioTestCase):
    """The application without a model server: what is refused before it."""

    async def asyncSetUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = pathlib.Path(folder.name)
        self.index = tiny_recognizer.write_index(self.root)

    async def make_client(self, *, keys=(), peer="10.0.0.1", **numbers):
        async def nothing(*_):
            pass

        pair = releases.unpublished(
            self.index / "2026-01-01-aa",
            model_base_path=self.root / "tiny",
            model_version=1,
            settings=settings.RecognitionSettings(),
        )
        live = live_release.LiveRelease(
            pair, wait_until_available=nothing, warm_up=nothing
        )
        await live.look()
        self.addCleanup(live.close)
        # Nobody listens there.
        server = model_server.ModelServer(
            f"unix:{self.root}/socket", timeout=1.0
        )
        self.addAsyncCleanup(server.close)
        self.queue = limits.Queue(numbers.get("max_queue", 64))
        api_keys = limits.ApiKeys(list(keys))
        self.parts = service.Service(
            live=live_releases.LiveReleases({"default": live}),
            server=server,
            pictures=pictures.Pictures(
                self.root / "catalogue", api_keys.secret
            ),
            keys=api_keys,
            limits=service.Limits(**numbers),
            queue=self.queue,
            counters=metrics.Metrics(lambda: self.queue.length),
            visitors=visitors.Visitors(),
        )
        client = httpx.AsyncClient(
            transport=httpx.ASGITransport(
                app.make(self.parts), client=(peer, 1)
            ),
            base_url="http://test",
        )
        self.addAsyncCleanup(client.aclose)
        return client

    def check_refusal(self, response, status):
        self.assertEqual(response.status_code, status, response.text)
        return answers.Refusal.model_validate_json(response.content).error

    async def test_keys(self):
        """Breaks if /v1 opens without a key, or health checks need one."""
        client = await self.make_client(keys=_KEYS)
        url = "/v1/products/sku-a"
        for headers in (
            {"X-Api-Key": _KEYS[0]},
            {"X-Api-Key": _KEYS[1]},
            {"Authorization": f"Bearer {_KEYS[1]}"},
            {"Authorization": f"bearer  {_KEYS[1]}"},
        ):
            response = await client.get(url, headers=headers)
            self.assertEqual(response.status_code, 200, headers)
        for headers in (
            {},
            {"X-Api-Key": ""},
            {"X-Api-Key": _KEYS[0][:-1]},
            {"X-Api-Key": _KEYS[0] + "x"},
            {"X-Api-Key": "sch\xf6n".encode("latin-1")},
            {"Authorization": f"Basic {_KEYS[0]}"},
            {"Authorization": "Bearer"},
        ):
            response = await client.get(url, headers=headers)
            self.check_refusal(response, 401)
            self.assertEqual(response.headers["www-authenticate"], "Bearer")
            # Nor is a photo read.
            response = await client.post(
                "/v1/recognize", content=b"x", headers=headers
            )
            self.check_refusal(response, 401)
        for path in ("/healthz", "/metrics", "/docs"):
            self.assertEqual((await client.get(path)).status_code, 200)

    async def test_pictures_are_signed(self):
        """Breaks if an <img> of the page needs a header that it can't send,
        or who has no key can make the id of a picture."""
        client = await self.make_client(keys=_KEYS)
        response = await client.get(
            "/v1/products/sku-a", headers={"X-Api-Key": _KEYS[0]}
        )
        [url] = response.json()["products"][0]["pictures"]
        self.assertEqual((await client.get(url)).status_code, 200)
        other = pictures.Pictures(
            self.root / "catalogue", limits.ApiKeys(["guessed"]).secret
        )
        response = await client.get(other.url("shop/a", 0, "shop/a.jpg"))
        self.check_refusal(response, 404)

    async def test_rate(self):
        """Breaks if one client gets more than its share, or uses up that of
        the others."""
        client = await self.make_client(keys=_KEYS, requests_per_minute=3)
        codes = []
        for key in (_KEYS[0],) * 4 + (_KEYS[1],):
            response = await client.get(
                "/v1/products/sku-a", headers={"X-Api-Key": key}
            )
            codes.append(response.status_code)
            if response.status_code == 429:
                self.check_refusal(response, 429)
                self.assertGreater(int(response.headers["retry-after"]), 0)
        self.assertEqual(codes, [200, 200, 200, 429, 200])
        for _ in range(5):
            self.assertEqual((await client.get("/healthz")).status_code, 200)

    async def test_rate_without_keys_is_of_the_peer(self):
        """Breaks if anybody escapes the rate by a header of his own."""
        client = await self.make_client(requests_per_minute=1)
        codes = [
            (
                await client.get(
                    "/v1/products/sku-a",
                    headers={"X-Api-Key": key, "X-Forwarded-For": key},
                )
            ).status_code
            for key in ("one", "two")
        ]
        self.assertEqual(codes, [200, 429])

    async def test_queue(self):
        """Breaks if photos without end are taken into memory, or a place is
        never given back."""
        client = await self.make_client(max_queue=1)

        async def slow_photo():
            yield tiny_server.make_jpeg(1)
            await arrived.wait()

        arrived = asyncio.Event()
        first = asyncio.create_task(
            client.post("/v1/recognize", content=slow_photo())
        )
        while not self.queue.length:
            await asyncio.sleep(0)
        response = await client.post("/v1/recognize", content=b"x")
        self.check_refusal(response, 503)
        self.assertEqual(response.headers["retry-after"], "1")
        arrived.set()
        # No model server; but the place is free.
        self.check_refusal(await first, 503)
        response = await client.post("/v1/recognize", content=b"x")
        self.check_refusal(response, 415)

    async def test_slow_upload(self):
        """Breaks if who sends a byte now and then holds a place for ever."""
        client = await self.make_client(timeout_seconds=0.05)

        async def endless():
            while True:
                yield b"x"
                await asyncio.sleep(0.01)

        response = await client.post("/v1/recognize", content=endless())
        self.check_refusal(response, 408)

    async def test_no_model_server(self):
        """Breaks if a request waits for a server that is not there."""
        client = await self.make_client()
        response = await client.post(
            "/v1/recognize", content=tiny_server.make_jpeg(1)
        )
        self.check_refusal(response, 503)
        self.assertIn("retry-after", response.headers)
        self.check_refusal(await client.get("/readyz"), 503)

    async def test_bug(self):
        """Breaks if a bug shows its traceback to strangers, or leaves them
        without an id to tell."""
        client = await self.make_client()
        self.parts.live = None
        with self.assertLogs(
            "sicot_tf.recognition.http.front", "ERROR"
        ) as logs:
            response = await client.get("/v1/products/sku-a")
        sentence = self.check_refusal(response, 500)
        self.assertNotIn("Attribute", sentence)
        self.assertIn(response.headers["x-request-id"], logs.output[0])
        self.assertIn(
            'code="500",path="/v1/products/{sku_id:path}"',
            self.parts.counters.text().decode(),
        )


class ReadApiKeysTest(unittest.TestCase):
    def read(self, text):
        with tempfile.NamedTemporaryFile() as file:
            path = pathlib.Path(file.name)
            path.write_text(text, "utf-8")
            return limits.read_api_keys(path)

    def test_lines(self):
        """Breaks if a comment is a key, or the order of the lines changes the
        signatures of pictures."""
        keys = self.read(f"# of the shop\n\n {_KEYS[0]} \n{_KEYS[1]}\n")
        self.assertTrue(keys)
        self.assertEqual(keys.secret, limits.ApiKeys(_KEYS[::-1]).secret)

    def test_mistakes(self):
        """Breaks if an empty file opens the service to everybody, or a key
        that can be guessed is taken."""
        for text in ("", "# only a comment\n", "short\n", "two words 1234567"):
            with self.assertRaisesRegex(ValueError, "Expected"):
                self.read(text)


class QueueTest(unittest.TestCase):
    def test_place(self):
        """Breaks if an error keeps a place."""
        queue = limits.Queue(1)
        for _ in range(2):
            with self.assertRaises(KeyError), queue.place():
                with self.assertRaises(starlette.exceptions.HTTPException):
                    with queue.place():
                        pass
                raise KeyError
        self.assertEqual(queue.length, 0)


if __name__ == "__main__":
    unittest.main()
