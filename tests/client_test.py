import contextlib
import io
import json
import pathlib
import tempfile

import grpc
import tensorflow as tf
import tiny_server

from sicot_tf import client


class ClientTest(tf.test.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.root = pathlib.Path(folder.name)
        tiny_server.write_saved_model(cls.root / "tiny" / "1")
        cls.address = f"unix:{cls.root / 'socket'}"
        cls.server = tiny_server.ServerProcess(
            cls.root / "log",
            *("--model_name", "tiny", "--port", "0"),
            *("--model_base_path", str(cls.root / "tiny")),
            *("--grpc_socket_path", str(cls.root / "socket")),
            "--enable_model_warmup=false",
        )
        cls.addClassCleanup(cls.server.kill)
        cls.channel = cls.server.connect(cls.address)
        cls.addClassCleanup(cls.channel.close)
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
                    + [str(argument) for argument in arguments]
                )
            except SystemExit as error:
                code = error.code
        return code, out.getvalue(), err.getvalue()

    def expected(self, seed):
        """Answers of the SavedModel itself, without server or client."""
        signatures = tf.saved_model.load(str(self.root / "tiny" / "1"))
        outputs = signatures.signatures["serving_default"](
            image_bytes=tf.constant([tiny_server.make_jpeg(seed)])
        )
        ids = [value.decode() for value in outputs["sku_id"].numpy()[0]]
        return ids, outputs["score"].numpy()[0]

    def test_recognize(self):
        """Order of pictures and of answers is kept; top_k cuts."""
        received = client.recognize(
            self.channel,
            [tiny_server.make_jpeg(1), tiny_server.make_jpeg(2)],
            model_name="tiny",
            top_k=3,
        )
        self.assertLen(received, 2)
        for seed, answers in zip((1, 2), received, strict=True):
            ids, scores = self.expected(seed)
            self.assertEqual([a.sku_id for a in answers], ids[:3])
            self.assertAllClose(
                [a.score for a in answers], scores[:3], 1e-6, 1e-6
            )

    def test_recognize_nothing(self):
        """No pictures, no answers, no request."""
        self.assertEqual(
            client.recognize(self.channel, [], model_name="tiny"), []
        )

    def test_recognize_raises_what_the_server_says(self):
        """Callers decide by the code."""
        with self.assertRaises(grpc.RpcError) as raised:
            client.recognize(self.channel, [b"x"], model_name="tiny")
        self.assertEqual(
            raised.exception.code(), grpc.StatusCode.INVALID_ARGUMENT
        )

    def test_main_prints_ids_scores_and_names(self):
        """What the reader of the README sees."""
        names = self.root / "classes.jsonl"
        ids, scores = self.expected(1)
        names.write_text(
            "".join(
                json.dumps({"sku_id": i, "sku_name": f"name of {i}", "n": 1})
                + "\n"
                for i in ids[1:]
            ),
            "utf-8",
        )
        photo = self.root / "1.jpg"
        code, out, err = self.run_main(
            photo, "--top_k", 2, "--product_names", names
        )
        self.assertEqual(code, 0)
        self.assertEqual(
            out,
            f"{photo}\n"
            f"  {scores[0]:6.1%}  {ids[0]}\n"
            f"  {scores[1]:6.1%}  {ids[1]}  name of {ids[1]}\n",
        )
        self.assertEqual(err, "")

    def test_main_goes_on_after_a_bad_photo(self):
        """One bad file may not hide the answers for the others."""
        missing = self.root / "missing.jpg"
        bad = self.root / "bad.jpg"
        code, out, err = self.run_main(
            missing, self.root / "1.jpg", bad, self.root / "2.jpg"
        )
        self.assertEqual(code, 1)
        self.assertEqual(out.count(".jpg\n"), 2)
        self.assertIn(f"{missing}: No such file or directory\n", err)
        self.assertIn(
            f"{bad}: INVALID_ARGUMENT: Unknown image file format.", err
        )

    def test_main_names_an_unknown_model(self):
        """The server's own words."""
        code, _, err = self.run_main(
            self.root / "1.jpg", "--model_name", "other"
        )
        self.assertEqual(code, 1)
        self.assertIn(
            "NOT_FOUND: Servable not found for request: Latest(other)", err
        )

    def test_main_says_what_to_start(self):
        """A stack trace of gRPC helps nobody."""
        code, _, _ = self.run_main(
            self.root / "1.jpg",
            *("--server", f"unix:{self.root / 'nobody'}"),
            *("--timeout", "0.2"),
        )
        self.assertIn("No model server answers at unix:", code)
        self.assertIn("python -m sicot_tf.serve --model_name tiny", code)

    def test_wrong_product_names(self):
        """The line is named, before any request."""
        names = self.root / "wrong.jsonl"
        names.write_text(
            '{"sku_id": "a", "sku_name": "A"}\n{"sku": "b"}\n', "utf-8"
        )
        code, out, _ = self.run_main(
            self.root / "1.jpg", "--product_names", names
        )
        self.assertIn("wrong.jsonl, line 2: expected a JSON object", code)
        self.assertEqual(out, "")


if __name__ == "__main__":
    tf.test.main()
