"""CSV whose quotes can't be trusted: no row vanishes inside another.

Every physical line belongs to exactly one row or one reject. A quoted cell may
hold line breaks, and its row is then all its lines. But a quote that was never
meant as one, such as the inch mark of `"27 inch monitor`, would take in all
rows up to the next quote. So a row of several lines counts only if it ends
properly, has a cell for each heading, and does not look like rows. Otherwise
its first line is put aside alone and reading goes on with the line behind it.
Each line is read at most three times, whatever the quotes.
"""

import csv
from collections.abc import Iterator
from collections.abc import Sequence

from beam_jobs.records import text_lines
from sicot_tf.data import records

# Characters of the lines behind the first that a quoted cell may go on for.
MAX_CONTINUATION = 1 << 24

# The module's own limit, 131,072 characters, is one for all readers of a
# process; ours are the two above.
csv.field_size_limit(text_lines.MAX_LINE)


def read_heading(lines: text_lines.TextLines) -> list[str]:
    """The names of the columns; [] if there is no line but blank ones.

    A column without a name is named after its place, `column 3`.

    Raises:
        ValueError: if a quote is left open.
    """
    line = "\n"
    while line and not line.strip():
        line = lines.read()
    if not line:
        return []
    cells, text = _read_quoted(lines, line)
    if cells is None:
        lines.put_back([each for each in text[1:] if each])
        cells = _read_alone(line)
    if cells is None:
        raise ValueError("the heading has a quote that nothing closes")
    return [name or f"column {n}" for n, name in enumerate(cells, 1)]


def read_rows(
    lines: text_lines.TextLines, num_cells: int
) -> Iterator[tuple[int, list[str] | records.RecordError, str]]:
    """The rows behind the heading.

    Yields:
        The number of the row's first line, its cells or what is wrong with
        it, and its text. Blank lines are passed over.
    """
    # Lines before this one can't begin a row of several lines: a quote that
    # was open there has been followed to where it fails, and another one
    # opened on the way fails at the same place.
    alone_until = 0
    while line := lines.read():
        number = lines.number
        text = line
        if len(line) >= text_lines.MAX_LINE:
            message = (
                f"The line has more than {text_lines.MAX_LINE:,} characters."
            )
            yield number, records.RecordError("bad_field", message), text
            continue
        if '"' not in line:
            cells = line.rstrip("\r\n").split(",")
            if cells == [""]:
                continue
        elif number < alone_until:
            cells = _read_alone(line)
        else:
            cells, text_of_row = _read_quoted(lines, line)
            if len(text_of_row) > 1:
                if cells is None or len(cells) != num_cells:
                    # The last line may begin a row, unless the file ended.
                    alone_until = lines.number + (not text_of_row[-1])
                    lines.put_back([each for each in text_of_row[1:] if each])
                    cells = None
                elif _looks_like_rows(text_of_row[1:], num_cells):
                    yield from _swallowed(number, text_of_row)
                    continue
                else:
                    text = "".join(text_of_row)
            if cells is None:
                cells = _read_alone(line)
        if cells is None:
            message = "A quoted cell is opened and does not end."
            yield number, records.RecordError("bad_field", message), text
        elif len(cells) != num_cells:
            message = f"{len(cells)} cells under {num_cells} headings."
            yield number, records.RecordError("bad_field", message), text
        else:
            yield number, cells, text


def _read_quoted(
    lines: text_lines.TextLines, first: str
) -> tuple[list[str] | None, list[str]]:
    """Cells of a row by the rules, None if it breaks them; and its lines.

    The lines end with "" if the file ended first.
    """
    if first.count('"') % 2 == 0:
        # Nearly every line is a row; the others are looked at below.
        try:
            return next(csv.reader((first,), strict=True)), [first]
        except csv.Error:
            pass
    text = [first]

    def read() -> Iterator[str]:
        yield first
        size = 0
        while size <= MAX_CONTINUATION:
            line = lines.read()
            text.append(line)
            if not line:
                return
            size += len(line)
            yield line

    try:
        return next(csv.reader(read(), strict=True)), text
    except csv.Error:
        return None, text


def _read_alone(line: str) -> list[str] | None:
    """Cells of one line as usual readers take them, None if a quote is open.

    Text behind a closing quote belongs to the cell: `"27" inch` is `27 inch`.
    """
    try:
        cells = next(csv.reader([line.rstrip("\r\n") + "\n"]))
    except csv.Error:
        return None
    # Only inside of quotes is a line end part of a cell.
    return None if cells[-1].endswith("\n") else cells


def _looks_like_rows(continuation: Sequence[str], num_cells: int) -> bool:
    """Whether a quoted cell has swallowed rows.

    The quote that ends it stands in a row then: that line, and at least half
    of those before it, have a cell for each heading. Running text has a space
    behind its commas.
    """
    if num_cells == 1:
        return False

    def is_row(line: str) -> bool:
        if line.count(",") < num_cells - 1:
            return False
        cells = _read_alone(line)
        return (
            cells is not None
            and len(cells) == num_cells
            and cells[0] != ""
            and not any(cell[:1].isspace() for cell in cells)
        )

    if not is_row(continuation[-1]):
        return False
    return 2 * sum(map(is_row, continuation)) >= len(continuation)


def _swallowed(
    number: int, text: Sequence[str]
) -> Iterator[tuple[int, records.RecordError, str]]:
    message = (
        f"A quote opened in line {number} runs to line "
        f"{number + len(text) - 1} over lines that are whole rows. Double it "
        "if it belongs to the text."
    )
    for each, line in enumerate(text, number):
        yield each, records.RecordError("bad_field", message), line
