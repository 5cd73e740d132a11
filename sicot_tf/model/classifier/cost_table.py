"""The costs of a classifier as text, replicated against sharded."""

from sicot_tf.model.classifier import costs

_LAYOUTS = ("replicated", "sharded")


def format_table(
    job: costs.Job,
    room: float,
    bandwidth: float | None = None,
    latency: float | None = None,
) -> str:
    """Memory, work and communication, replicated against sharded.

    Args:
        room: bytes of a device that the classifier may take.
        bandwidth: bytes a second; None leaves the time out, as for latency.
        latency: seconds.
    """
    lines = [f"{'':34}" + "".join(f"{layout:>14}" for layout in _LAYOUTS)]

    def add(name: str, *cells: str) -> None:
        lines.append(f"{name:34}" + "".join(f"{cell:>14}" for cell in cells))

    for name, function, unit in (
        ("classifier's memory of a worker", costs.memory_bytes, "B"),
        ("classifier's work in a step", costs.flops, "FLOP"),
        ("sent by a worker in a step", costs.sent_bytes, "B"),
    ):
        columns = [function(job, layout) for layout in _LAYOUTS]
        add(name, *(_amount(sum(each.values()), unit) for each in columns))
        for part in dict.fromkeys([*columns[0], *columns[1]]):
            values = [each.get(part, 0) for each in columns]
            if any(values):
                add("  " + part, *(_amount(each, unit) for each in values))
    counts = [costs.num_collectives(job, layout) for layout in _LAYOUTS]
    add("collectives in a step", *map(str, counts))
    if bandwidth is not None and latency is not None:
        seconds = [
            costs.communication_seconds(job, layout, bandwidth, latency)
            for layout in _LAYOUTS
        ]
        add("their time", *(f"{1000 * each:,.1f} ms" for each in seconds))
    largest = [
        costs.largest_num_classes(job, layout, room) for layout in _LAYOUTS
    ]
    add(f"most classes in {_amount(room, 'B')}", *(f"{n:,}" for n in largest))
    return "\n".join(lines)


def _amount(value: float, unit: str) -> str:
    """Three digits and a prefix, as in 24.5 GB."""
    if not value:
        return "-"
    for prefix in ("", "k", "M", "G", "T"):
        if value < 999.5 or prefix == "T":
            break
        value /= 1000
    decimals = (value < 99.95) + (value < 9.995)
    return f"{value:,.{decimals}f} {prefix}{unit}"


def conclusions(
    job: costs.Job, layout: str, device_memory: float, room: float
) -> list[str]:
    """What the table means for the chosen layout, a sentence or two a line."""
    needed = costs.parameter_bytes(
        job.num_classes, job.embedding_dim, job.num_slots
    )
    found = [
        f"--classifier auto: {layout}; weights, gradient and slots of all "
        f"classes are {_amount(needed, 'B')}, {needed / device_memory:.1%} of "
        "a device."
    ]
    if not costs.keeps_logits(job, layout):
        found.append(
            "The logits exceed --logit_memory and are computed again, "
            f"{costs.BLOCK_SIZE:,} classes at a time."
        )
    total = sum(costs.memory_bytes(job, layout).values())
    if total > room:
        found.append(
            f"It does not fit: {_amount(total, 'B')} where "
            f"{_amount(room, 'B')} are free. Take more workers or a smaller "
            "embedding."
        )
    return found
