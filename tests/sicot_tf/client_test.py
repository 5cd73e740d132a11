import contextlib
import http.server
import io
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
from concurrent import futures
from unittest import mock

import grpc
import numpy as np
import tensorflow as tf
from PIL import Image
from tensorflow_serving.apis import predict_pb2
from tensorflow_serving.apis import prediction_service_pb2_grpc

from sicot_tf import client
from sicot_tf.catalogue import product_index
from sicot_tf.serving.grpc_api import client_side
from tests.helpers import tiny_server
from tests.sicot_tf.catalogue import product_index_test


class ClientTest(tf.test.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        folder = cls.enterClassContext(tempfile.TemporaryDirectory())
        cls.root = pathlib.Path(folder)
        server = tiny_server.shared()
        cls.address = server.grpc_address
        cls.model = tf.saved_model.load(str(server.tiny))
        cls.tiny = client.Client(cls.address, model_name="tiny", timeout=60)
        cls.addClassCleanup(cls.tiny.close)
        for seed in (1, 2):
            path = cls.root / f"{seed}.jpg"
            path.write_bytes(tiny_server.make_jpeg(seed))
        (cls.root / "bad.jpg").write_bytes(b"garbage")

    def run_main(self, *arguments):
        """Exit code, standard output and standard error of the command."""
        out, err = io.StringIO(), io.StringIO()
        code = 0
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                client.main(
                    ["--server", self.address, "--model_name", "tiny"]
                    + ["--timeout", "60"]
                    + [str(argument) for argument in arguments]
                )
            except SystemExit as error:
                code = error.code
        return code, out.getvalue(), err.getvalue()

    def expected(self, seed):
        """Answers of the SavedModel itself, without server or client."""
        outputs = self.model.signatures["serving_default"](
            image_bytes=tf.constant([tiny_server.make_jpeg(seed)])
        )
        ids = [value.decode() for value in outputs["sku_id"].numpy()[0]]
        return ids, outputs["score"].numpy()[0]

    def test_recognize(self):
        """Breaks if the order of pictures or answers is lost, a request
        without pictures is sent, or callers can't decide by the code."""
        received = self.tiny.recognize(
            [tiny_server.make_jpeg(1), tiny_server.make_jpeg(2)], top_k=3
        )
        self.assertLen(received, 2)
        for seed, answers in zip((1, 2), received, strict=True):
            ids, scores = self.expected(seed)
            self.assertEqual([a.sku_id for a in answers], ids[:3])
            self.assertAllClose(
                [a.score for a in answers], scores[:3], 1e-6, 1e-6
            )
            # Picture 1 has a low score (tiny_server.THRESHOLD).
            self.assertEqual([a.recognised for a in answers], [seed == 2] * 3)
        self.assertEqual(self.tiny.recognize([]), [])
        with self.assertRaises(grpc.RpcError) as raised:
            self.tiny.recognize([b"x"])
        self.assertEqual(
            raised.exception.code(), grpc.StatusCode.INVALID_ARGUMENT
        )

    def test_paths_bytes_and_pictures_of_pillow(self):
        """Breaks if one kind of picture is sent in another way."""
        path = self.root / "1.jpg"
        png = io.BytesIO()
        # What Pillow makes of the JPEG file, as a file.
        Image.open(path).save(png, "PNG")
        of_path, of_bytes, of_pillow, of_png = self.tiny.recognize(
            [path, path.read_bytes(), Image.open(path), png.getvalue()]
        )
        self.assertEqual(of_path, of_bytes)
        self.assertEqual(of_pillow, of_png)
        with self.assertRaisesRegex(TypeError, "a path .*received str"):
            self.tiny.recognize([str(path)])

    def test_pictures_of_pillow_are_sent_as_files_are(self):
        """Breaks if a photo is not turned, or a mode PNG lacks can't be sent.

        The same pixels lie on their side with orientation 6, and as CMYK.
        """
        upright = Image.open(self.root / "1.jpg").convert("RGB")
        exif = Image.Exif()
        exif[0x0112] = 6  # Turn it clockwise to see it.
        photo = io.BytesIO()
        upright.rotate(90, expand=True).save(photo, "PNG", exif=exif)
        wanted, turned = self.tiny.recognize([upright, Image.open(photo)])
        for one, other in zip(wanted, turned, strict=True):
            self.assertEqual(one.sku_id, other.sku_id)
            # Places of one batch may be added up in another order.
            self.assertAlmostEqual(one.score, other.score, places=5)
        (cmyk,) = self.tiny.recognize([upright.convert("CMYK")])
        self.assertEqual(len(cmyk), len(wanted))

    def test_main_goes_on_after_a_bad_photo(self):
        """Breaks if one bad file hides the answers for the others, or the
        server's own words are lost."""
        missing = self.root / "missing.jpg"
        bad = self.root / "bad.jpg"
        code, out, err = self.run_main(
            missing, self.root / "1.jpg", bad, self.root / "2.jpg"
        )
        self.assertEqual(code, 1)
        # Two lines of photos, one of which is not recognised.
        self.assertStartsWith(
            out, f"{self.root / '1.jpg'}: not recognised; what comes closest:\n"
        )
        self.assertIn(f"\n{self.root / '2.jpg'}\n", out)
        self.assertIn(f"{missing}: No such file or directory\n", err)
        self.assertIn(
            f"{bad}: INVALID_ARGUMENT: assertion failed: [Expected a JPEG", err
        )
        code, _, err = self.run_main(bad, "--model_name", "other")
        self.assertEqual(code, 1)
        self.assertIn(
            "NOT_FOUND: Servable not found for request: Latest(other)", err
        )

    def test_main_says_what_to_start(self):
        """Breaks if a stack trace of gRPC is all that is told."""
        code, _, err = self.run_main(
            self.root / "1.jpg",
            *("--server", f"unix:{self.root / 'nobody'}"),
            *("--timeout", "0.2"),
        )
        self.assertEqual(code, 2)
        self.assertStartsWith(err, "error: No model server answers at unix:")
        self.assertIn("python -m sicot_tf.serve --model_name tiny", err)

    def test_main_prints_ids_scores_and_names(self):
        """Breaks if the reader of the README sees something else, null is
        printed as "None", a name breaks the lines, or names of other products
        are taken without a word."""
        names = self.root / "nameless.jsonl"
        [best, second, *_], scores = self.expected(1)
        rows = [
            {"sku_id": best, "sku_name": None},
            {"sku_id": second, "sku_name": "a\tb\r\n c"},
            {"sku_id": "without"},
        ]
        names.write_text("".join(json.dumps(row) + "\n" for row in rows))
        photo = self.root / "1.jpg"
        flags = ("--top_k", 2, "--product_names", names)
        code, out, err = self.run_main(photo, *flags)
        self.assertEqual((code, err), (0, ""))
        self.assertEqual(
            out,
            f"{photo}: not recognised; what comes closest:\n"
            f"  {scores[0]:6.1%}  {best}\n"
            f"  {scores[1]:6.1%}  {second}  a b c\n",
        )
        names.write_text('{"sku_id": "x", "sku_name": "of another run"}\n')
        _, _, err = self.run_main(photo, *flags)
        self.assertIn("knows none of these products", err)

    def test_main_prints_products(self):
        """Breaks if a recognised SKU is shown with another one's products, or
        one without products looks like a failure."""
        index = self.root / "index"
        [best, second, *_], _ = self.expected(1)
        products = [(str(i), best, f"Cola {i}") for i in range(4)]
        product_index_test.write_generation(index, "2026-01-01-aa", products)
        photo = self.root / "1.jpg"
        flags = ("--top_k", 2, "--product_index", index)
        code, out, err = self.run_main(photo, *flags)
        self.assertEqual((code, err), (0, ""))
        _, of_best, *lines, of_second, nothing = out.splitlines()
        self.assertEndsWith(of_best, best)
        self.assertEqual(
            [line.strip() for line in lines],
            # Three of the four, the newest first.
            ["Cola 0 [drink]", "Cola 1 [drink]", "Cola 2 [drink]"],
        )
        self.assertEndsWith(of_second, second)
        self.assertEqual(nothing.strip(), "no product in the index")
        code, out, err = self.run_main(photo, "--product_index", self.root)
        self.assertEqual((code, out), (2, ""))

    def test_a_generated_product(self):
        """Breaks if a product that does not exist is shown as a real one."""
        product = product_index.Product(
            *("shop/1", "cola", "", [], [], None, {"generated": True}, None)
        )
        self.assertEqual(client._describe(product), "shop/1 (generated)")

    def test_urls_of_photos(self):
        """Breaks if file:// is not read, or https:// gives a puzzle."""
        photo = self.root / "a b.jpg"
        photo.write_bytes(tiny_server.make_jpeg(1))
        code, out, _ = self.run_main(photo.as_uri(), "--top_k", 1)
        self.assertEqual(code, 0)
        self.assertIn(self.expected(1)[0][0], out)
        empty = self.root / "empty.jpg"
        empty.touch()
        code, _, err = self.run_main("https://h/x.jpg", empty, self.root)
        self.assertEqual(code, 1)
        self.assertIn("https://h/x.jpg: Expected a file", err)
        self.assertIn("empty.jpg: The file is empty.", err)
        self.assertIn(f"{self.root}: Is a directory", err)

    def test_wrong_product_names(self):
        """Breaks if the wrong line is not named before any request."""
        names = self.root / "wrong.jsonl"
        names.write_text('{"sku_id": "a", "sku_name": "A"}\n{"sku": "b"}\n')
        code, out, err = self.run_main("1.jpg", "--product_names", names)
        self.assertEqual((code, out), (2, ""))
        self.assertIn("wrong.jsonl, line 2: expected a JSON object", err)


class ScriptedService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Fails as it is told, then answers SKU "a" and 0.5 for each picture."""

    def __init__(self):
        self.failures = []
        self.requests = []
        self.peers = []
        self.as_content = False

    def Predict(self, request, context):  # noqa: N802
        self.requests.append(request)
        self.peers.append(context.peer())
        if self.failures:
            context.abort(self.failures.pop(0), "busy")
        [size] = request.inputs["image_bytes"].tensor_shape.dim
        response = predict_pb2.PredictResponse()
        response.outputs["sku_id"].string_val.extend([b"a"] * size.size)
        score = response.outputs["score"]
        if self.as_content:
            score.tensor_content = np.full([size.size], 0.5, "<f4").tobytes()
            recognised = response.outputs["recognised"]
            recognised.tensor_content = (np.arange(size.size) > 0).tobytes()
        else:
            score.float_val.extend([0.5] * size.size)
        return response


class ScriptedServiceTest(tf.test.TestCase):
    """The same client against a server that fails on command."""

    def setUp(self):
        super().setUp()
        self.service = ScriptedService()
        server = grpc.server(
            futures.ThreadPoolExecutor(4),
            options=[("grpc.max_receive_message_length", -1)],
        )
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
            self.service, server
        )
        self.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        self.addCleanup(server.stop, None)

    def recognize(self, *, images=(b"x",), timeout=20.0, **settings):
        with client.Client(self.address, timeout=timeout, **settings) as asked:
            return asked.recognize(images)

    def test_asks_again_when_the_server_is_busy(self):
        """Breaks if a rolling update or a full queue reaches the callers,
        also of large requests: gRPC's default is to give up on these."""
        self.service.failures = [
            grpc.StatusCode.UNAVAILABLE,
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            # What gRPC makes of a call that meets the end of a server.
            grpc.StatusCode.CANCELLED,
        ]
        received = self.recognize(images=[bytes(5_000_000)])
        self.assertEqual(received, [[client.Recognition("a", 0.5)]])
        self.assertLen(self.service.requests, 4)

    def test_proxies_of_the_web_are_not_asked(self):
        """Breaks if http_proxy, which nobody listens on here, hides a model
        server; gRPC itself would ask it, even for localhost."""
        proxies = ("http_proxy", "https_proxy", "grpc_proxy")
        nobody = f"http://127.0.0.1:{tiny_server.free_port()}"
        with mock.patch.dict("os.environ", dict.fromkeys(proxies, nobody)):
            self.assertLen(self.recognize(), 1)
            self.assertEqual(client_side.proxy_option("host:1")[1], 1)
            del os.environ["grpc_proxy"]
            self.assertEqual(client_side.proxy_option("host:1")[1], 0)

    def test_servers_that_are_none(self):
        """Breaks if a URL, a missing port or another protocol ends in a
        time-out without a reason."""
        for server in ("http://localhost:8500", "localhost", "h:99999", ""):
            with self.assertRaisesRegex(ValueError, "gRPC port as host:port"):
                client.Client(server)
        for server in ("dns:///h:1", "unix:x", "[::1]:8500", "10.0.0.1:1"):
            client.Client(server).close()
        web = http.server.HTTPServer(
            ("127.0.0.1", 0), http.server.BaseHTTPRequestHandler
        )
        self.addCleanup(web.server_close)
        threading.Thread(target=web.handle_request, daemon=True).start()
        said = client.why_not(f"127.0.0.1:{web.server_port}")
        self.assertIn("speaks HTTP/1", said)
        self.assertEqual(client.why_not(self.address), "")

    def test_other_errors_are_final(self):
        """Breaks if a request is repeated that can never succeed."""
        self.service.failures = [grpc.StatusCode.INTERNAL]
        with self.assertRaises(grpc.RpcError) as raised:
            self.recognize()
        self.assertEqual(raised.exception.code(), grpc.StatusCode.INTERNAL)
        self.assertLen(self.service.requests, 1)

    def test_gives_up(self):
        """Breaks if a client asks for ever: 5 attempts, or the deadline."""
        self.service.failures = [grpc.StatusCode.UNAVAILABLE] * 99
        with self.assertRaises(grpc.RpcError) as raised:
            self.recognize()
        self.assertEqual(raised.exception.code(), grpc.StatusCode.UNAVAILABLE)
        self.assertEqual(raised.exception.details(), "busy")
        self.assertLen(self.service.requests, 5)
        with self.assertRaises(grpc.RpcError) as raised:
            self.recognize(timeout=1e-3)
        self.assertEqual(
            raised.exception.code(), grpc.StatusCode.DEADLINE_EXCEEDED
        )

    def test_channels_are_used_in_turn(self):
        """Breaks if all channels share one connection."""
        with client.Client(self.address, num_channels=3) as asked:
            for _ in range(6):
                asked.recognize([b"x"])
        self.assertLen(set(self.service.peers), 3)

    def test_model_version_and_label(self):
        """Breaks if another version answers than the one asked for."""
        self.recognize()
        self.recognize(model_name="m", version=7)
        self.recognize(model_name="m", version_label="canary")
        specs = [request.model_spec for request in self.service.requests]
        self.assertEqual([spec.name for spec in specs], ["sicot", "m", "m"])
        self.assertEqual(
            [spec.WhichOneof("version_choice") for spec in specs],
            [None, "version", "version_label"],
        )
        self.assertEqual(specs[1].version.value, 7)
        self.assertEqual(specs[2].version_label, "canary")
        with self.assertRaisesRegex(ValueError, "received both: 7 and 'c'"):
            client.Client(self.address, version=7, version_label="c")
        with self.assertRaisesRegex(ValueError, "num_channels of 1 or more"):
            client.Client(self.address, num_channels=0)

    def test_scores_as_tensor_content(self):
        """Breaks with --enable_serialization_as_tensor_content.

        Only the second picture is recognised. Models without this answer, as
        all others here, recognise every picture.
        """
        self.service.as_content = True
        self.assertEqual(
            self.recognize(images=[b"x", b"y"]),
            [
                [client.Recognition("a", 0.5, recognised=False)],
                [client.Recognition("a", 0.5, recognised=True)],
            ],
        )


class ImportTest(tf.test.TestCase):
    def test_import_is_light(self):
        """Breaks if a program that asks has to load TensorFlow."""
        script = (
            "import sys; from sicot_tf import client; "
            "client.Client('unix:x').close(); "
            "sys.exit(bool({'tensorflow', 'numpy', 'PIL'} & set(sys.modules)))"
        )
        subprocess.run(
            [sys.executable, "-c", script],
            cwd=tiny_server.PROJECT_DIR,
            check=True,
        )


if __name__ == "__main__":
    tf.test.main()
