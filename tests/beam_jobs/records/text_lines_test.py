"""Tests of record files in encodings other than UTF-8."""

import gzip
import io
import unittest

from beam_jobs.records import raw_records
from beam_jobs.records import text_lines

_TITLES = {
    "gb18030": "红色羊毛围巾 包邮",
    "big5": "紅色羊毛圍巾 包郵",
    "shift_jis": "赤いマフラー 送料無料",
    "cp949": "빨간 스카프",
    "latin-1": "café crème brûlée",
    "cp1252": "Größe für “Männer” – 5 €",
    "cp1251": "красный шарф",
    "utf-16": "红色 scarf",
    "utf-16-le": "红色 scarf",
    "utf-16-be": "红色 scarf",
    "utf-32": "红色 scarf",
    "utf-8-sig": "红色\u2028scarf",
}


def _csv(title):
    rows = "".join(f"{i},{title} {i}\n" for i in range(8))
    return f"record_id,title\n{rows}"


def _json_lines(title):
    return "".join(
        f'{{"record_id": {i}, "title": "{title} {i}"}}\r\n' for i in range(8)
    )


class EncodingsTest(unittest.TestCase):
    def test_other_encodings_are_told_before_anything_is_read(self):
        """Broken: a model learns garbage, and the job says all is well."""
        for encoding, title in _TITLES.items():
            if encoding == "utf-8-sig":
                continue
            for name, text in (("x.csv", _csv), ("x.jsonl", _json_lines)):
                data = text(title).encode(encoding)
                with self.subTest(encoding, name=name):
                    with self.assertRaisesRegex(ValueError, "--encoding"):
                        raw_records.check_encoding(io.BytesIO(data), name)
                    with self.assertRaisesRegex(ValueError, "--encoding"):
                        raw_records.check_encoding(
                            io.BytesIO(gzip.compress(data)), f"{name}.gz"
                        )

    def test_encodings_that_are_named(self):
        """Broken: the way out that the message names leads nowhere."""
        for encoding, title in _TITLES.items():
            for name, text in (("x.csv", _csv), ("x.jsonl", _json_lines)):
                data = text(title).encode(encoding)
                with self.subTest(encoding, name=name):
                    raw_records.check_encoding(
                        io.BytesIO(data), name, encoding=encoding
                    )
                    for file, each in (
                        (io.BytesIO(data), name),
                        (io.BytesIO(gzip.compress(data)), f"{name}.gz"),
                    ):
                        rows = raw_records.read_rows(
                            file, each, encoding=encoding
                        )
                        self.assertEqual(
                            [row["title"] for _, row, _ in rows],
                            [f"{title} {i}" for i in range(8)],
                        )

    def test_guesses(self):
        """Broken: the message names an encoding that is not the file's."""
        for encoding, expected in (
            ("gb18030", "gb18030"),
            ("shift_jis", "shift_jis"),
            ("cp949", "cp949"),
            ("cp1251", "cp1251"),
            ("utf-16", "utf-16"),
            ("utf-32", "utf-32"),
            ("utf-16-be", "utf-16-be"),
        ):
            data = _csv(_TITLES[encoding]).encode(encoding)
            guesses = text_lines.guess_encodings(data)
            self.assertEqual(guesses[0], expected)

    def test_unknown_encodings(self):
        """Broken: a slip in the flag ends in a traceback."""
        for encoding in ("klingon", "base64", "rot13"):
            with self.assertRaisesRegex(ValueError, encoding):
                raw_records.check_encoding(
                    io.BytesIO(b"a\n"), "x.csv", encoding=encoding
                )

    def test_a_heading_in_another_encoding(self):
        """Broken: nobody learns why a column is not found."""
        data = "record_id,价格\n1,9.9\n".encode("gb18030")
        with self.assertRaisesRegex(ValueError, "--encoding"):
            raw_records.check_encoding(
                io.BytesIO(data), "x.csv", fields={"record_id"}
            )

    def test_stray_bytes_spoil_their_own_record(self):
        """Broken: one record in Latin-1 ends the job, or becomes a word."""
        rows = [f"{i},titulo {i},x".encode() for i in range(9)]
        rows[3] = b"3,t\xedtulo,x"
        # Nobody uses this cell.
        rows[5] = b"5,titulo 5,\xed"
        data = b"record_id,title,note\n" + b"\n".join(rows)
        fields = {"record_id", "title"}
        raw_records.check_encoding(io.BytesIO(data), "x.csv", fields=fields)
        read = list(
            raw_records.read_rows(io.BytesIO(data), "x.csv", fields=fields)
        )
        self.assertEqual(read[3][1].reason, "bad_encoding")
        self.assertEqual(read[5][1]["title"], "titulo 5")
        for _, _, content in read:
            content.encode()
        line = b'{"record_id": 3, "title": "t\xedtulo"}\n{"record_id": 4}'
        (_, error, _), (_, row, _) = raw_records.read_rows(
            io.BytesIO(line), "x.jsonl", fields=fields
        )
        self.assertEqual(error.reason, "bad_encoding")
        self.assertEqual(row, {"record_id": 4})

    def test_half_a_unit_of_utf16(self):
        """Broken: a file that was cut ends in a traceback."""
        data = "title\none\ntwo\n".encode("utf-16")[:-1]
        (_, one, _), (_, two, _) = raw_records.read_rows(
            io.BytesIO(data), "x.csv", encoding="utf-16"
        )
        self.assertEqual(one, {"title": "one"})
        self.assertEqual(two.reason, "bad_encoding")


if __name__ == "__main__":
    unittest.main()
