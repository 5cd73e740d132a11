"""Of what the vectors of a generation are, so that the next one can tell.

`sources.sqlite` of a generation: every picture that was wanted, also one that
has no vector, and which live changes the catalogue has taken over.
"""

import contextlib
import pathlib
import sqlite3

from beam_jobs.vectors import wanted
from sicot_tf.catalogue import gallery
from sicot_tf.catalogue import vector_rows

FILE = gallery.SOURCES

_SCHEMA = """
CREATE TABLE pictures (
    product_id TEXT NOT NULL,
    picture INTEGER NOT NULL,
    category TEXT,
    source TEXT NOT NULL,
    content TEXT,
    PRIMARY KEY (product_id, picture)
) STRICT, WITHOUT ROWID;
CREATE TABLE taken_over (
    product_id TEXT PRIMARY KEY,
    sequence INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
"""


def write(
    generation: pathlib.Path, listed: pathlib.Path, taken_over: dict[str, int]
) -> None:
    """Writes the file from the list of wanted pictures."""
    path = generation / FILE
    path.unlink(missing_ok=True)
    with contextlib.closing(sqlite3.connect(path)) as sources:
        # Nobody reads it before the generation has its name.
        sources.execute("PRAGMA journal_mode = OFF")
        sources.executescript(_SCHEMA)
        sources.execute("ATTACH ? AS listed", (str(listed),))
        sources.execute(
            "INSERT INTO pictures SELECT product_id, picture, category, "
            "source, iif(file IS NULL, NULL, content) FROM listed.wanted "
            "ORDER BY product_id, picture"
        )
        sources.executemany(
            "INSERT INTO taken_over VALUES (?, ?)", sorted(taken_over.items())
        )
        sources.commit()


def read_taken_over(generation: pathlib.Path) -> dict[str, int]:
    """Number of each product's last change that the catalogue has."""
    with contextlib.closing(_open(generation)) as sources:
        return dict(
            sources.execute("SELECT product_id, sequence FROM taken_over")
        )


def note_base(listed: pathlib.Path, base: pathlib.Path) -> None:
    """Notes for wanted pictures where the base has vectors of their sources.

    Whether a picture has changed since is for others to find out.
    """
    with wanted.opened(listed) as work:
        work.execute("ATTACH ? AS base", (str(base / FILE),))
        work.execute("ATTACH ? AS named", (str(base / vector_rows.STORE),))
        work.execute(
            "CREATE TEMP TABLE known AS SELECT product_id, source, content, "
            "slot FROM base.pictures JOIN named.vectors "
            "USING (product_id, picture) WHERE content IS NOT NULL"
        )
        work.execute(
            "CREATE INDEX temp.by_source ON known (product_id, source)"
        )
        work.execute(
            "UPDATE wanted SET file = ?, place = slot, content = known.content "
            "FROM known WHERE known.product_id = wanted.product_id AND "
            "known.source = wanted.source",
            (wanted.BASE,),
        )


def changed_products(
    listed: pathlib.Path, base: pathlib.Path
) -> tuple[set[str], set[str]]:
    """Products whose pictures are not those of the base.

    Returns:
        Those that the base has and that change or go, and those that come or
        change.
    """
    with wanted.opened(listed) as work:
        work.execute("ATTACH ? AS base", (str(base / FILE),))
        now = (
            "SELECT product_id, picture, category, content FROM wanted "
            "WHERE file IS NOT NULL"
        )
        before = (
            "SELECT product_id, picture, category, content FROM base.pictures "
            "WHERE content IS NOT NULL"
        )
        different = {
            name
            for (name,) in work.execute(
                f"SELECT DISTINCT product_id FROM ({now} EXCEPT {before})"
            )
        } | {
            name
            for (name,) in work.execute(
                f"SELECT DISTINCT product_id FROM ({before} EXCEPT {now})"
            )
        }

        def of(rows: str) -> set[str]:
            names = work.execute(f"SELECT DISTINCT product_id FROM ({rows})")
            return {name for (name,) in names} & different

        return of(before), of(now)


def _open(generation: pathlib.Path) -> sqlite3.Connection:
    path = generation / FILE
    if not path.is_file():
        raise ValueError(
            f"Expected {FILE} in {generation}. Was it built by "
            "beam_jobs.build_vector_index? Build it again, without --delta."
        )
    uri = path.resolve().as_uri()
    return sqlite3.connect(f"{uri}?mode=ro&immutable=1", uri=True)
