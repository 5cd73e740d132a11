import datetime
import json
import pathlib
import tempfile
import unittest

import fastapi
import httpx

from sicot_tf.recognition.http import front
from sicot_tf.recognition.http import limits
from sicot_tf.recognition.http import metrics
from sicot_tf.recognition.http import recognition_paths
from sicot_tf.recognition.http import refusals
from sicot_tf.recognition.http import service
from sicot_tf.recognition.http import visitors
from sicot_tf.recognition.visits import events
from sicot_tf.recognition.visits import variants

_SHARES = {"current": 0.5, "new": 0.5}
_BROWSER = "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0"


class EventsTest(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.log = events.EventLog(self.folder)
        parts = service.Service(
            # Nobody asks for them here.
            *(None, None, None, limits.ApiKeys([]), service.Limits()),
            queue=limits.Queue(1),
            counters=metrics.Metrics(lambda: 0),
            visitors=visitors.Visitors(self.log, _SHARES, "salt"),
        )
        app = fastapi.FastAPI()
        app.add_middleware(front.Front, counters=parts.counters)
        refusals.add_handlers(app)
        recognition_paths.add_events(app, parts, [])
        self.http = httpx.AsyncClient(
            transport=httpx.ASGITransport(app),
            base_url="https://test",
            headers={"User-Agent": _BROWSER},
        )
        self.addAsyncCleanup(self.http.aclose)

    def rows(self):
        """What was written, file by file."""
        self.log.close()
        return [
            json.loads(line)
            for path in sorted(self.folder.glob("*.jsonl"))
            for line in path.read_text("utf-8").splitlines()
        ]

    async def test_page(self):
        """Breaks if two events of a browser are two visitors, if a variant is
        not that of the visitor, or if more than an id is remembered."""
        first = await self.http.post("/v1/events", json={"event": "visit"})
        self.assertEqual(first.status_code, 204)
        cookie = first.headers["set-cookie"]
        for part in ("HttpOnly", "SameSite=lax", "Secure"):
            self.assertIn(part, cookie)
        second = await self.http.post(
            "/v1/events", json={"event": "click", "sku_id": "cola"}
        )
        self.assertNotIn("set-cookie", second.headers)
        visit, click = self.rows()
        self.assertEqual(visit["visitor"], click["visitor"])
        self.assertIn(visit["visitor"], cookie)
        self.assertNotEqual(visit["event_id"], click["event_id"])
        for row in (visit, click):
            self.assertEqual(
                row["variant"],
                variants.assign(row["visitor"], _SHARES, "salt"),
            )
            self.assertFalse(row["robot"])
        self.assertEqual(click["sku_id"], "cola")
        age = datetime.datetime.now(
            datetime.UTC
        ) - datetime.datetime.fromisoformat(visit["time"])
        self.assertLess(abs(age), datetime.timedelta(minutes=10))

    async def test_trade_of_a_shop(self):
        """Breaks if a shop can't tell who bought, and when."""
        row = {
            "event": "trade",
            "event_id": "order-1",
            "time": "2026-01-02T03:04:05Z",
            "visitor": "abc",
        }
        response = await self.http.post(
            "/v1/events", json=row, headers={"User-Agent": "python-httpx"}
        )
        self.assertEqual(response.status_code, 204)
        self.assertNotIn("set-cookie", response.headers)
        [written] = self.rows()
        self.assertEqual(written | row, written)
        # A shop's program is no visitor.
        self.assertFalse(written["robot"])

    async def test_robot(self):
        """Breaks if programs count as visitors."""
        await self.http.post(
            "/v1/events",
            json={"event": "visit"},
            headers={"User-Agent": "Googlebot/2.1"},
        )
        [row] = self.rows()
        self.assertTrue(row["robot"])

    async def test_refusals(self):
        """Breaks if something else than an event is written, or an e-mail
        address as a visitor."""
        for content, status in (
            (b"", 422),
            (b"[]", 422),
            (b"{", 422),
            (b'{"event": "other"}', 422),
            (b'{"event": "visit", "visitor": "a@b.example"}', 422),
            (b'{"event": "visit", "visitor": 7}', 422),
            (b" " * 9000, 413),
        ):
            response = await self.http.post("/v1/events", content=content)
            self.assertEqual(response.status_code, status, content[:60])
        self.assertEqual(self.rows(), [])


if __name__ == "__main__":
    unittest.main()
