"""Tests of reading CSV whose quotes can't be trusted."""

import csv
import io
import unittest

from beam_jobs.records import csv_rows
from beam_jobs.records import raw_records
from beam_jobs.records import text_lines
from sicot_tf.data import records


def _read(text, **settings):
    """Line and title of each record, line and reason of each reject."""
    file = io.BytesIO(text.encode())
    return [
        (line, row["title"] if isinstance(row, dict) else row.reason)
        for line, row, _ in raw_records.read_rows(file, "x.csv", **settings)
    ]


class CountingLines(text_lines.TextLines):
    """Lines that know how often one was read."""

    num_reads = 0

    def read(self):
        self.num_reads += 1
        return super().read()


class CsvRowsTest(unittest.TestCase):
    def test_a_quote_that_never_ends(self):
        """Broken: all rows behind it are words of its title."""
        for row in ('b,i,s,"27 inch, black', 'b,"27 inch,i,s', '"b,i,s,x'):
            text = f"id,image,sku,title\na,i,s,one\n{row}\nc,i,s,two\n"
            self.assertEqual(
                _read(text), [(2, "one"), (3, "bad_field"), (4, "two")]
            )

    def test_a_quote_that_a_later_row_ends(self):
        """Broken: the rows between the quotes are words of a title."""
        text = 'id,sku,title\na,s,"27 inch\nb,s,red\nc,s,lamp 12"\nd,s,blue\n'
        self.assertEqual(
            _read(text),
            [(2, "bad_field"), (3, "bad_field"), (4, "bad_field"), (5, "blue")],
        )

    def test_cells_of_several_lines_stay_one_record(self):
        """Broken: what pandas and Excel write is cut into pieces."""
        titles = [
            "two\nlines",
            "three\r\n\r\nlines",
            "Soft, warm\nred, blue, and more",
            # Lines that look like rows.
            "r8,x,y\nr9,x,y\nend",
            'quotes: "a"\n"b", "c"\n',
            "\n",
            # Beyond the 131,072 characters that Python's csv takes.
            "long text, with commas\n" * 10_000,
        ]
        output = io.StringIO()
        writer = csv.writer(output)
        writer.writerow(["id", "title", "sku"])
        for title in titles:
            writer.writerow(["a", title, "s"])
        rows = _read(output.getvalue())
        self.assertEqual([title for _, title in rows], titles)
        # The second record is in line 4: heading, two lines.
        self.assertEqual([line for line, _ in rows[:3]], [2, 4, 7])

    def test_what_usual_readers_take(self):
        """Broken: rows are rejected that every other reader takes."""
        for cell, title in (
            ('"a"b', "ab"),
            ('"a" ', "a "),
            ('27" and 12"', '27" and 12"'),
            ('"27\\" monitor"', '27\\ monitor"'),
            ("x\0y", "x\0y"),
        ):
            text = f"sku,title\ns,{cell}\nt,end\n"
            self.assertEqual(_read(text), [(2, title), (3, "end")])

    def test_rows_of_the_wrong_length(self):
        """Broken: a row with a comma too many shifts cells or vanishes."""
        text = "sku,title\r\ns\r\n\n\r\ns,t,u\ns,end"
        self.assertEqual(
            _read(text), [(2, "bad_field"), (5, "bad_field"), (6, "end")]
        )

    def test_headings(self):
        """Broken: a file is read under the wrong names."""
        self.assertEqual(_read('\ufeff"title",\n1,2\n'), [(2, "1")])
        self.assertEqual(_read("\n\ntitle\n1\n"), [(4, "1")])
        self.assertEqual(_read(""), [])
        rows = raw_records.read_rows(io.BytesIO(b",title,\n1,2,3\n"), "x.csv")
        self.assertEqual(
            next(rows)[1], {"column 1": "1", "title": "2", "column 3": "3"}
        )
        # Two columns nobody uses may have one name.
        used = {"fields": {"title"}}
        self.assertEqual(_read("title,note,note\n1,2,3\n", **used), [(2, "1")])
        with self.assertRaisesRegex(ValueError, "'title' stands twice"):
            _read("title,title\n1,2\n", **used)
        with self.assertRaisesRegex(ValueError, "columns named sku_id"):
            _read("a,b\n1,2\n", needed=["sku_id"])
        with self.assertRaisesRegex(ValueError, "quote that nothing closes"):
            _read('sku,"title\n1,2\n')

    def test_no_line_is_read_often(self):
        """Broken: one bad quote makes a large file take days."""
        for name, row in {
            "opened in every row": 'a,s,"27 inch\n',
            "closed and opened in every row": 'a,x","y\n',
            "closed by the next row": 'a,s,"x\nb,s,y"\n',
            "escaped in every row": 'a,"",""x\n',
        }.items():
            data = "id,sku,title\n" + 'o,s,"open\n' + row * 500
            lines = CountingLines(io.BytesIO(data.encode()), "utf-8", "\r\n")
            with self.subTest(name):
                csv_rows.read_heading(lines)
                num_rows = sum(1 for _ in csv_rows.read_rows(lines, 3))
                num_lines = data.count("\n")
                self.assertEqual(num_rows, num_lines - 1)
                self.assertLessEqual(lines.num_reads, 3 * num_lines + 3)

    def test_a_quote_open_for_longer_than_any_cell(self):
        """Broken: memory grows with the file behind an open quote."""
        line = "a,s," + "x" * (1 << 20) + "\n"
        data = 'id,sku,title\no,s,"open\n' + line * 20 + 'b,s,"two\nlines"\n'
        rows = _read(data)
        self.assertEqual(rows[0], (2, "bad_field"))
        self.assertEqual(len(rows), 22)
        self.assertEqual(rows[-1], (23, "two\nlines"))

    def test_lines_beyond_any_record(self):
        """Broken: a file without line ends takes all memory."""
        limit = text_lines.MAX_LINE
        try:
            text_lines.MAX_LINE = 1000
            text = f"title\n{'x' * 5000}\nend\n"
            self.assertEqual(_read(text), [(2, "bad_field"), (3, "end")])
            file = io.BytesIO(b'{"a": "' + b"x" * 5000 + b'"}\n{"a": 1}')
            (_, error, _), (line, row, _) = raw_records.read_rows(
                file, "x.jsonl"
            )
            self.assertIsInstance(error, records.RecordError)
            self.assertEqual((line, row), (2, {"a": 1}))
        finally:
            text_lines.MAX_LINE = limit


if __name__ == "__main__":
    unittest.main()
