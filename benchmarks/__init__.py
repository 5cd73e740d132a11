"""One file a claim; run as `python -m benchmarks.ROOM.NAME`."""
