"""Records that can't be used: why, and their lines in `rejects.jsonl`."""

import json
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

from apache_beam.metrics import Metrics

from beam_jobs.pipelines import runners
from beam_jobs.records import raw_records


def describe(error: Exception) -> dict[str, str]:
    """The `reason` and `message` of what went wrong; counts it."""
    reason, message = raw_records.why_rejected(error)
    count(reason)
    return {"reason": reason, "message": message}


def count(reason: str) -> None:
    """Counts a reject for those who watch the job."""
    Metrics.counter(runners.METRICS_NAMESPACE, f"rejected_{reason}").inc()


def to_lines(rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Lines for the rejects, each led by its row, by which they are merged.

    Args:
        rows: with what `parts.REJECTS_SCHEMA` has.
    """
    for row in rows:
        content = json.loads(row["content"])
        known = isinstance(content, dict)
        line = raw_records.to_json(
            {
                "record_id": content.get("record_id") if known else None,
                "reason": row["reason"],
                "message": row["message"],
                "file": row["file"],
                "line": row["line"],
                "record": content,
            }
        )
        yield f"{row['row']}\t{line}"
