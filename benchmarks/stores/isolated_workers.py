"""Workers of a portable runner that share no folder with the launcher.

Prism starts a script of ours (`--environment_type PROCESS`), which goes to a
mount namespace of its own: the disk is read-only there, so that Python and the
packages can be used as those of an image, and the folder that holds all of the
launcher (its working folder, HOME, TMPDIR, records, output) and of the store's
server is an empty one in memory. Of the launcher's environment nothing is
left. Then Beam's boot program takes over, the one that starts workers in Beam's
containers. Needs root on Linux (`unshare`, `mount`), and go.

Keys of the store stand in the script, as on a machine that workers run on. In
the `env` of `--environment_config` they would be seen: Beam logs all options.
"""

import json
import pathlib
import shlex
import subprocess
import sys

from benchmarks import go_programs
from benchmarks.jobs import portable_runners

_BOOT = "github.com/apache/beam/sdks/v2/python/container"
_ROOT = pathlib.Path(__file__).parents[2]
_SCRIPT = """\
#!/bin/sh
# Prism 2.77 puts the worker's id in quotes; nobody takes them away.
for word; do
  shift
  set -- "$@" "$(printf %s "$word" | tr -d "'")"
done
exec env -i {variables} unshare --mount sh -c '
  set -e
  mount --make-rprivate /
  mount -t tmpfs tmpfs {folder}
  mount -t tmpfs tmpfs /dev/shm
  mount -o remount,bind,ro /
  mkdir -p "$TMPDIR" "$HOME"
  cd "$HOME"
  exec "$@"' worker {command} "$@"
"""


def flags(
    folder: pathlib.Path, environment: dict[str, str], version: str
) -> list[str]:
    """Flags of a job for such workers on Prism.

    Args:
        folder: what workers must not see; the script is written there.
        environment: what they know of the store.
        version: of Beam.

    Raises:
        go_programs.UnavailableError: if there is no go, or no right to mount.
    """
    prism = portable_runners.fetch_prism(version)
    boot = go_programs.fetch(_BOOT, version)
    if boot.is_relative_to(folder):
        raise ValueError(f"Expected {boot} to be outside of {folder}.")
    print(f"A worker sees: {look(folder, environment)}", flush=True)
    command = [str(boot), f"--semi_persist_dir={folder / 'worker'}"]
    script = _write_script(folder, command, environment)
    return [
        "--runner=PrismRunner",
        f"--prism_location={prism}",
        "--environment_type=PROCESS",
        f"--environment_config={json.dumps({'command': str(script)})}",
    ]


def look(folder: pathlib.Path, environment: dict[str, str]) -> str:
    """What is in `folder` for a worker, and whether it can write elsewhere.

    Raises:
        go_programs.UnavailableError: if there is no right to mount.
    """
    canary = folder / "canary"
    canary.touch()
    program = (
        "import os, pathlib, sys\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "found = [str(p) for p in folder.rglob('*') if not p.is_dir()]\n"
        "try: answer = open(sys.argv[2], 'w')\n"
        "except OSError as error: answer = error.strerror\n"
        "print(f'files {found} in {folder}, elsewhere: {answer}; variables',\n"
        "      *sorted(os.environ), end='')\n"
    )
    outside = folder.with_name(folder.name + ".outside")
    command = [sys.executable, "-c", program, str(folder), str(outside)]
    script = _write_script(folder, command, environment)
    finished = subprocess.run(
        [script], capture_output=True, text=True, check=False
    )
    if finished.returncode:
        raise go_programs.UnavailableError(
            f"Workers can't be kept apart here: {finished.stderr.strip()}"
        )
    if "files [] in" not in finished.stdout or outside.exists():
        raise ValueError(f"Workers are not apart: {finished.stdout}")
    return finished.stdout


def _write_script(
    folder: pathlib.Path, command: list[str], environment: dict[str, str]
) -> pathlib.Path:
    variables = {
        "PATH": f"{pathlib.Path(sys.executable).parent}:/usr/bin:/bin",
        "PYTHONPATH": str(_ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "TMPDIR": str(folder / "worker" / "temporary"),
        "HOME": str(folder / "worker" / "home"),
        # Else boot makes a virtual environment beside Beam's of the image.
        "RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT": "1",
        **environment,
    }
    script = folder / "worker.sh"
    script.write_text(
        _SCRIPT.format(
            variables=shlex.join(f"{k}={v}" for k, v in variables.items()),
            folder=folder,
            command=shlex.join(command),
        ),
        "utf-8",
    )
    script.chmod(0o755)
    return script
