import concurrent.futures
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import urllib.parse

import httpx
import tensorflow as tf
from absl.testing import parameterized

from sicot_tf import files
from sicot_tf.data import generations
from sicot_tf.recognition import answers
from sicot_tf.recognition import settings
from sicot_tf.recognition.releases import release_check
from sicot_tf.recognition.releases import releases
from sicot_tf.recognition.visits import variants
from tests.helpers import picture_formats
from tests.helpers import tiny_index
from tests.helpers import tiny_recognizer
from tests.helpers import tiny_server

# What never comes fails; a busy machine takes minutes to start a server.
_TIMEOUT = 300
_SHARES = {"current": 0.5, "new": 0.5}


def can_connect(url: str) -> bool:
    """Whether somebody listens."""
    parts = urllib.parse.urlsplit(url)
    with socket.socket() as probe:
        return probe.connect_ex((parts.hostname, parts.port)) == 0


class ServiceTest(parameterized.TestCase):
    """One process for all tests that only ask."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        folder = cls.enterClassContext(tempfile.TemporaryDirectory())
        cls.root = pathlib.Path(folder)
        server = tiny_server.shared()
        cls.model = tf.saved_model.load(str(server.tiny))
        cls.recognizer = tiny_recognizer.RecognizerProcess(
            cls.root,
            *("--model", "tiny", "--model_server", server.grpc_address),
            *("--product_index", tiny_recognizer.write_index(cls.root)),
            *("--catalogue_root", cls.root / "catalogue"),
            *("--max_bytes", 100_000, "--timeout_seconds", _TIMEOUT),
        )
        cls.addClassCleanup(cls.recognizer.kill)
        cls.http = cls.enterClassContext(
            httpx.Client(base_url=cls.recognizer.url, timeout=_TIMEOUT)
        )

    def recognize(self, data, **parameters):
        """The answer, checked against its description."""
        response = self.http.post(
            "/v1/recognize", files={"image": data}, params=parameters
        )
        self.assertEqual(response.status_code, 200, response.text)
        answer = answers.Answer.model_validate_json(response.content)
        self.assertEqual(response.headers["x-request-id"], answer.request_id)
        return answer

    def refusal(self, response, status):
        """The sentence of a refusal."""
        self.assertEqual(response.status_code, status, response.text)
        refusal = answers.Refusal.model_validate_json(response.content)
        self.assertRegex(refusal.error, r"\.$")
        self.assertEqual(response.headers["x-request-id"], refusal.request_id)
        return refusal.error

    @parameterized.parameters(1, 2)
    def test_the_models_answer(self, seed):
        """Breaks if the panel shows another SKU, score or certainty than the
        model gives for these bytes."""
        data = tiny_server.make_jpeg(seed)
        expected = self.model.signatures["serving_default"](
            image_bytes=tf.constant([data])
        )
        answer = self.recognize(data, localize=False, top_k=3)
        [found] = answer.objects
        ranking = [(found.sku_id, found.score)]
        ranking += [(each.sku_id, each.score) for each in found.alternatives]
        self.assertEqual(
            [sku_id.encode() for sku_id, _ in ranking],
            expected["sku_id"][0, :3].numpy().tolist(),
        )
        for (_, score), wanted in zip(ranking, expected["score"][0].numpy()):
            self.assertAlmostEqual(score, wanted, 5)
        # Below and above the threshold.
        self.assertEqual(found.recognised, seed == 2)
        self.assertEqual(answer.recognised, seed == 2)
        self.assertEqual(found.box, (0, 0, 24, 20))
        self.assertEqual(answer.index_generation, "2026-01-01-aa")
        self.assertEqual(answer.model_version, 1)
        self.assertContainsSubset(
            {"decode", "localise", "recognise", "category", "index", "total"},
            answer.milliseconds,
        )

    def test_raw_body_and_form_are_one(self):
        """Breaks if curl --data-binary and curl -F get other answers, or a
        field of the form is not heard."""
        data = tiny_server.make_jpeg(2)
        form = self.http.post(
            "/v1/recognize", files={"image": data}, data={"top_k": "2"}
        ).json()
        raw = self.http.post("/v1/recognize?top_k=2", content=data).json()
        for answer in (form, raw):
            del answer["request_id"], answer["milliseconds"]
        self.assertEqual(form, raw)
        self.assertLen(form["objects"][0]["alternatives"], 1)

    def test_box_of_the_user(self):
        """Breaks if another part than the box is recognised."""
        image = picture_formats.rgb()
        data = picture_formats.encode(image, "PNG")
        part = picture_formats.encode(image.crop((8, 0, 40, 32)), "PNG")
        whole = self.recognize(part, localize=False).objects[0]
        # Cut to the picture, which is 48 x 32.
        boxed = self.recognize(data, box="8,0,40,99").objects[0]
        self.assertEqual((boxed.box, boxed.box_from), ((8, 0, 40, 32), "user"))
        self.assertEqual(boxed.sku_id, whole.sku_id)
        self.assertAlmostEqual(boxed.score, whole.score, 5)

    def test_what_is_missing_is_a_note(self):
        """Breaks if a SKU without product, or a product without picture,
        ends in an error or in silence."""
        found = {}
        for seed in range(12):
            [each] = self.recognize(
                tiny_server.make_jpeg(seed), localize=False, top_k=7
            ).objects
            found[each.sku_id] = each
            for other in each.alternatives:
                if other.sku_id in tiny_recognizer.WITHOUT_PRODUCT:
                    self.assertIsNone(other.product)
                else:
                    self.assertEqual(other.product.sku_id, other.sku_id)
        notes = {sku_id: each.note for sku_id, each in found.items()}
        for sku_id, note in notes.items():
            if sku_id in tiny_recognizer.WITHOUT_PRODUCT:
                self.assertIn("no product", note)
            elif sku_id == "sku e":
                self.assertIn("no picture", note)
            else:
                self.assertIsNone(note)
        self.assertGreater(len(notes), 1)

    def test_category_filter(self):
        """Breaks if the filter lets other categories through, or a filter
        that fits nothing hides everything."""
        data = tiny_server.make_jpeg(1)
        found, *_ = self.recognize(
            data, category_filter="drink", top_k=7
        ).objects
        sku_ids = [found.sku_id, *(each.sku_id for each in found.alternatives)]
        self.assertNotEmpty(sku_ids)
        self.assertContainsSubset(sku_ids, {"可乐 330 ml", "sku-d"})
        other, *_ = self.recognize(data, category_filter="no such").objects
        self.assertFalse(other.recognised)
        self.assertIn("no such", other.note)

    def test_pictures(self):
        """Breaks if a picture's URL shows another file, or one of another
        type than its bytes are."""
        response = self.http.get("/v1/products/sku-a")
        products = response.json()["products"]
        self.assertEqual(
            [each["product_id"] for each in products], ["shop/a", "shop/a2"]
        )
        for each in products:
            picture = self.http.get(each["pictures"][0])
            path = self.root / "catalogue" / f"{each['product_id']}.jpg"
            self.assertEqual(picture.content, path.read_bytes())
            self.assertEqual(picture.headers["content-type"], "image/jpeg")
            self.assertEqual(
                picture.headers["x-content-type-options"], "nosniff"
            )
            self.assertIn("max-age", picture.headers["cache-control"])
        sku = urllib.parse.quote("可乐 330 ml")
        [product] = self.http.get(f"/v1/products/{sku}").json()["products"]
        self.assertEqual(self.http.get(product["pictures"][0]).status_code, 200)
        [product] = self.http.get("/v1/products/sku-b").json()["products"]
        self.assertEqual(product["pictures"], [tiny_recognizer.REMOTE_PICTURE])

    def test_path_tricks(self):
        """Breaks if a file outside of the catalogue, or one that is no
        picture, can be had."""
        [product] = self.http.get("/v1/products/sku-d").json()["products"]
        # All but the one in a bucket.
        *outside, good = product["pictures"]
        self.assertLen(outside, 5)
        self.assertEqual(self.http.get(good).status_code, 200)
        for url in outside:
            self.refusal(self.http.get(url), 404)
        for path in (
            "/v1/pictures/..%2f..%2f..%2fetc%2fpasswd",
            "/v1/pictures/" + "A" * 5000,
            "/v1/pictures/%00",
            # The picture itself, not signed.
            "/v1/pictures/shop/a.jpg",
            good[:-2] + "zz",
            good + "A",
            "/..%2fapp.py",
            "/v1/products/nothing",
            "/.git",
        ):
            response = self.http.get(path)
            self.refusal(response, 404)
            self.assertNotIn(tiny_recognizer.SECRET, response.content)

    @parameterized.named_parameters(
        ("form of another kind", {"data": {"top_k": "1"}}, 415),
        ("photo in another field", {"files": {"other": b"x"}}, 422),
        ("empty body", {"content": b""}, 400),
        ("text", {"content": b"hello"}, 415),
        ("cut", {"content": tiny_server.make_jpeg(1)[:300]}, 422),
        ("too large", {"content": bytes(100_001)}, 413),
        (
            "too large a form",
            {"files": {"image": bytes(100_001)}},
            413,
        ),
        (
            "form without boundary",
            {
                "content": b"x",
                "headers": {"content-type": "multipart/form-data"},
            },
            400,
        ),
        (
            "unknown parameter",
            {"content": b"x", "params": {"topk": 3}},
            422,
        ),
        ("top_k of 0", {"content": b"x", "params": {"top_k": 0}}, 422),
        (
            "box outside",
            {
                "content": tiny_server.make_jpeg(1),
                "params": {"box": "30,0,40,9"},
            },
            422,
        ),
        (
            "no box",
            {"content": b"x", "params": {"box": "1,2,3"}},
            422,
        ),
        (
            "parameter twice",
            {"content": b"x", "params": {"top_k": ["1", "2"]}},
            422,
        ),
    )
    def test_refusals(self, request, status):
        """Breaks if a mistake has the wrong code or no sentence."""
        self.refusal(self.http.post("/v1/recognize", **request), status)

    def test_other_paths(self):
        """Breaks if an unknown path or method is no refusal in JSON."""
        self.refusal(self.http.get("/v1/recognize"), 405)
        self.refusal(self.http.post("/nothing/at/all"), 404)
        self.refusal(self.http.get("/nothing"), 404)

    def test_endless_body(self):
        """Breaks if a body that does not say its length fills the memory: it
        is refused while it still arrives."""
        url = urllib.parse.urlsplit(self.recognizer.url)
        with socket.create_connection((url.hostname, url.port)) as peer:
            peer.sendall(
                b"POST /v1/recognize HTTP/1.1\r\nHost: x\r\n"
                b"Transfer-Encoding: chunked\r\n\r\n"
            )
            chunk = b"10000\r\n" + bytes(0x10000) + b"\r\n"
            for _ in range(4):  # 262,144 bytes; 100,000 may come.
                peer.sendall(chunk)
            peer.settimeout(_TIMEOUT)
            self.assertStartsWith(
                peer.recv(4096).decode("ascii"), "HTTP/1.1 413 "
            )

    def test_many_at_once(self):
        """Breaks if answers of one time get mixed up."""
        pictures = [tiny_server.make_jpeg(seed) for seed in range(8)]
        alone = [self.recognize(each).objects for each in pictures]
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            together = pool.map(
                lambda each: self.recognize(each).objects, pictures
            )
            for one, other in zip(alone, together):
                self.assertEqual(one[0].sku_id, other[0].sku_id)

    def test_operation(self):
        """Breaks if health, metrics or documentation can't be read, or the
        page may load something of another host."""
        self.assertEqual(self.http.get("/healthz").status_code, 200)
        ready = self.http.get("/readyz")
        self.assertEqual(ready.json()["index_generation"], "2026-01-01-aa")
        self.recognize(tiny_server.make_jpeg(2))
        metrics = self.http.get("/metrics").text
        for part in (
            'requests_total{code="200",path="/v1/recognize"}',
            'stage_seconds_bucket{le="0.005",stage="decode"}',
            'answers_total{recognised="true"}',
            "queue_length 0.0",
            'live{index_generation="2026-01-01-aa",model="tiny",'
            'model_version="1",variant="default"} 1.0',
        ):
            self.assertIn(f"sicot_recognition_{part}", metrics)
        docs = self.http.get("/docs")
        self.assertIn("POST /v1/recognize", docs.text)
        self.assertNotIn("<script", docs.text)
        openapi = self.http.get("/openapi.json").json()
        self.assertIn("/v1/recognize", openapi["paths"])
        for response in (docs, ready):
            self.assertIn(
                "default-src", response.headers["content-security-policy"]
            )

    def test_request_ids(self):
        """Breaks if a request can't be found in two logs by its id, or the
        id of a stranger is put into a log whatever it is."""
        for given, is_kept in (("abc-1", True), ("a b\u00e9", False)):
            response = self.http.get(
                "/healthz", headers={"X-Request-Id": given.encode("latin-1")}
            )
            said = response.headers["x-request-id"]
            self.assertEqual(said == given, is_kept)


class EndTest(parameterized.TestCase):
    def write_release(self, root):
        """Version 4 with an index of its own, whose catalogue is near."""
        model = root / "models" / "tiny" / "4"
        shutil.copytree(root / "models" / "tiny" / "3", model)
        index = tiny_index.write(
            root / "new-index", "2026-02-02-bb", [("n", "sku-f", "new")]
        )
        catalogue = root / "new-shop" / "catalogue.jsonl"
        catalogue.parent.mkdir()
        catalogue.write_text("{}")
        (root / "new-shop" / "n.jpg").write_bytes(tiny_server.make_jpeg(1))
        described = {"name": catalogue.name, "sha256": files.sha256(catalogue)}
        (index / generations.MANIFEST).write_text(
            json.dumps({"inputs": [described]})
        )
        releases.publish(
            root / "new-releases",
            *(model, index, settings.RecognitionSettings()),
            release_check.check(model, index),
        )
        return root / "new-releases"

    def check_variants(self, http):
        """Two visitors, who are asked again and again; their variants."""
        expected = {
            "current": {
                "model_version": 3,
                "index_generation": "2026-01-01-aa",
            },
            "new": {"model_version": 4, "index_generation": "2026-02-02-bb"},
        }
        # Of many visitors the first that gets each.
        visitors = {
            variants.assign(f"visitor-{number}", _SHARES, "salt"): (
                f"visitor-{number}"
            )
            for number in range(20)
        }
        self.assertEqual(set(visitors), set(expected))
        photo = tiny_server.make_jpeg(2)
        for variant, visitor in visitors.items():
            cookie = {"Cookie": f"sicot_visitor={visitor}"}
            for _ in range(3):
                answer = http.post(
                    "/v1/recognize", content=photo, headers=cookie
                ).json()
                self.assertEqual(
                    answer, answer | expected[variant] | {"variant": variant}
                )
            response = http.post(
                "/v1/events", json={"event": "visit"}, headers=cookie
            )
            self.assertEqual(response.status_code, 204)
            # Tools may ask for the other one.
            [other] = set(expected) - {variant}
            answer = http.post(
                f"/v1/recognize?variant={other}", content=photo, headers=cookie
            ).json()
            self.assertEqual(
                answer, answer | expected[other] | {"variant": other}
            )
            # One product is in the index of `new` only, others in the
            # other's only, and everybody finds them.
            found = http.get("/v1/products/sku-f", headers=cookie).json()
            self.assertEqual(found["index_generation"], "2026-02-02-bb")
            [url] = found["products"][0]["pictures"]
            picture = http.get(url, headers=cookie)
            self.assertEqual(picture.content, tiny_server.make_jpeg(1))
            found = http.get("/v1/products/sku-a", headers=cookie)
            self.assertEqual(found.status_code, 200)
            response = http.post(
                "/v1/recognize?variant=none", content=photo, headers=cookie
            )
            self.assertEqual(response.status_code, 422)
            self.assertIn("current or new", response.json()["error"])
        self.assertEqual(http.get("/readyz").json()["variants"], expected)
        metrics = http.get("/metrics").text
        for variant, parts in expected.items():
            self.assertIn(
                "sicot_recognition_live{index_generation="
                f'"{parts["index_generation"]}",model="tiny",model_version='
                f'"{parts["model_version"]}",variant="{variant}"}} 1.0',
                metrics,
            )
        return {visitor: variant for variant, visitor in visitors.items()}

    def test_variants_restart_and_end(self):
        """Breaks if visitors are not answered from their variant's release,
        if a dead model server stays dead, if a load balancer is not told
        before the end, or if a process is left behind."""
        root = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        model = root / "models" / "tiny" / "3"
        shutil.copytree(tiny_server.shared().tiny, model)
        new_releases = self.write_release(root)
        recognizer = tiny_recognizer.RecognizerProcess(
            root,
            *("--model", model),
            *("--product_index", tiny_recognizer.write_index(root)),
            *("--variants", "current=0.5,new=0.5", "--variant_salt", "salt"),
            *("--variant_releases", f"new={new_releases}"),
            *("--events", root / "events", "--timeout_seconds", _TIMEOUT),
            *("--drain_seconds", 3600),
        )
        self.addCleanup(recognizer.kill)
        http = self.enterContext(
            httpx.Client(base_url=recognizer.url, timeout=_TIMEOUT)
        )
        photo = tiny_server.make_jpeg(2)

        def recognize():
            return http.post("/v1/recognize?variant=current", content=photo)

        given = self.check_variants(http)
        [server] = recognizer.children()
        os.kill(server, signal.SIGKILL)
        tiny_recognizer.wait_until(
            lambda: not tiny_recognizer.is_running(server)
        )
        # Starting takes seconds: nobody is left waiting for it.
        refused = recognize()
        self.assertEqual(refused.status_code, 503)
        self.assertIn("retry-after", refused.headers)
        self.assertEqual(http.get("/readyz").status_code, 503)
        tiny_recognizer.wait_until(
            lambda: http.get("/readyz").status_code == 200
        )
        self.assertEqual(recognize().status_code, 200)
        self.assertIn(
            "model_server_restarts_total 1.0", http.get("/metrics").text
        )
        [server] = recognizer.children()
        recognizer.terminate()
        tiny_recognizer.wait_until(
            lambda: http.get("/readyz").status_code == 503
        )
        self.assertEqual(recognize().status_code, 200)
        # A photo that is half there when the process is told to end at once.
        began, go_on = threading.Event(), threading.Event()

        def slow_photo():
            yield photo[:100]
            began.set()
            go_on.wait()
            yield photo[100:]

        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            running = pool.submit(
                lambda: http.post("/v1/recognize", content=slow_photo())
            )
            began.wait()
            recognizer.terminate()
            # It listens no more.
            tiny_recognizer.wait_until(lambda: not can_connect(recognizer.url))
            go_on.set()
            self.assertEqual(running.result().status_code, 200)
        self.assertEqual(recognizer.wait(), 0, recognizer.log_text)
        rows = [
            json.loads(line)
            for path in (root / "events").glob("*.jsonl")
            for line in path.read_text("utf-8").splitlines()
        ]
        self.assertEqual(
            {row["visitor"]: row["variant"] for row in rows}, given
        )
        self.assertFalse(tiny_recognizer.is_running(server))

    def test_no_orphan(self):
        """Breaks if a recogniser that the kernel kills leaves a model server
        behind, which holds memory and files for ever."""
        script = (
            "import asyncio, pathlib, signal\n"
            "from sicot_tf.recognition import embedded_server\n"
            "async def main():\n"
            "    server = embedded_server.EmbeddedServer()\n"
            "    server.serve({'x': (pathlib.Path('nowhere'), [1])})\n"
            "    while server.pid is None:\n"
            "        await asyncio.sleep(0.01)\n"
            "    print(server.pid, flush=True)\n"
            "    await asyncio.sleep(3600)\n"
            "asyncio.run(main())\n"
        )
        # Who is killed leaves its folder.
        folder = self.enterContext(tempfile.TemporaryDirectory())
        with subprocess.Popen(
            [sys.executable, "-c", script],
            env=os.environ | {"TMPDIR": folder},
            stdout=subprocess.PIPE,
        ) as parent:
            child = int(parent.stdout.readline())
            # It has become the server, which is told to end with its parent:
            # before, the launcher's program is among its arguments.
            tiny_recognizer.wait_until(
                lambda: (
                    b"prctl"
                    not in pathlib.Path(f"/proc/{child}/cmdline").read_bytes()
                )
            )
            parent.kill()
        tiny_recognizer.wait_until(
            lambda: not tiny_recognizer.is_running(child)
        )


if __name__ == "__main__":
    tf.test.main()
