"""Which modules a program takes along, in a process of its own."""

import subprocess
import sys
from collections.abc import Set


def loaded(code: str, modules: Set[str], *arguments: object) -> set[str]:
    """Those of `modules` that are loaded after `code` has run.

    Args:
        arguments: of the program, its `sys.argv[1:]`.
    """
    finished = subprocess.run(
        [
            *(sys.executable, "-c"),
            f"{code}\nimport sys; print(*sys.modules)",
            *map(str, arguments),
        ],
        capture_output=True,
        check=True,
        text=True,
    )
    # What the code prints comes before.
    return set(modules) & set(finished.stdout.splitlines()[-1].split(" "))
