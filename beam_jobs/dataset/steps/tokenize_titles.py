"""Titles of a part, as words."""

from collections.abc import Iterator

import apache_beam as beam
import pyarrow as pa

from beam_jobs.dataset.steps import parts
from beam_jobs.dataset.steps import reject_lines
from sicot_tf.data import titles


class TokenizeTitlesFn(beam.DoFn):
    """A table of stored records to one with the words of the titles.

    `parts.STORED_SCHEMA` to `parts.TOKENIZED_SCHEMA`.
    """

    def process(self, table: pa.Table) -> Iterator[pa.Table]:
        rows = table.to_pylist()
        good = [row for row in rows if not row["reason"]]
        try:
            all_words = titles.tokenize([row["title"] for row in good])
        except Exception:  # Find the record below.
            all_words = [None] * len(good)
        for row, words in zip(good, all_words, strict=True):
            try:
                if words is None:
                    (words,) = titles.tokenize([row["title"]])
                row["words"] = words
            except Exception as error:  # One record must not end the job.
                row.update(reject_lines.describe(error))
        yield parts.of_part(rows, parts.TOKENIZED_SCHEMA, table)
