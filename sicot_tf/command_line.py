"""What every command does alike: its help, its log, its end.

A command's file holds its flags and `main`, which imports what is heavy after
its arguments are parsed: `--help` and a mistyped flag answer at once. Results
are printed to stdout; what happens on the way is logged to stderr.
"""

import argparse
import contextlib
import linecache
import logging
import os
import pathlib
import shutil
import subprocess
import sys
import traceback
from collections.abc import Iterator
from typing import Any
from typing import NoReturn

import tqdm

from sicot_tf import exit_codes
from sicot_tf.stores import locations

_LEVELS = ("debug", "info", "warning", "error")
# `__main__` is the command itself under `python -m`.
_PACKAGES = ("sicot_tf", "beam_jobs", "benchmarks", "__main__")
# As a shell says it: 128 + SIGINT.
_INTERRUPTED = 130
# What TensorFlow says of every start on a machine without a GPU. Native code
# writes it before any log level is read (tensorflow/tensorflow#100442).
_CHATTER = (
    r"before absl::InitializeLog|port\.cc:.*oneDNN|cudart_stub\.cc|"
    r"cuda_platform\.cc.*cuInit|computation_placer|cpu_feature_guard|"
    r"^To enable the following instructions"
)
_TENSORFLOW_LEVEL = "TF_CPP_MIN_LOG_LEVEL"


class ArgumentParser(argparse.ArgumentParser):
    """Flags of `python -m MODULE`, with `--verbosity` among them.

    Flags are never abbreviated: a cut one would mean another in the next
    release. A mistake is one line, as it is for all that comes later.
    """

    def __init__(self, module: str, description: str | None, examples: str):
        super().__init__(
            prog=f"python -m {module}",
            description=description,
            epilog=examples,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        self.add_argument(
            "--verbosity",
            choices=_LEVELS,
            default="info",
            help="what is logged; debug also shows TensorFlow's own messages "
            "(default: %(default)s)",
        )

    def add_run_dir(self, what: str = "a training run") -> None:
        """The flag that commands about a run have in common."""
        self.add_argument(
            "--run_dir",
            type=local_path,
            default=pathlib.Path("runs/cotrain"),
            help=f"{what} (default: %(default)s)",
        )

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Also sets the log up, so that no command forgets it."""
        _log_to_stderr()  # For what renamed flags say while they are read.
        arguments, unknown = super().parse_known_args(args, namespace)
        set_up_logging(arguments.verbosity)
        return arguments, unknown

    def error(self, message: str) -> NoReturn:
        """Ends with one line and the code of bad input."""
        self.exit(
            exit_codes.BAD_INPUT,
            f"error: {message.rstrip('.')}. See {self.prog} --help.\n",
        )


def local_path(text: str) -> pathlib.Path:
    """The type of a flag that takes no URL.

    Raises:
        argparse.ArgumentTypeError: if it is one.
    """
    if locations.is_remote(text):
        raise argparse.ArgumentTypeError(
            f"expected a path of this machine, received {text!r}; what is "
            "named here is read and written on a disk: copy it from or to the "
            "store yourself, or mount the bucket"
        )
    return pathlib.Path(text)


def set_up_logging(verbosity: str = "info") -> None:
    """Time, level and message of our packages, warnings of all others."""
    _log_to_stderr()
    for package in _PACKAGES:
        logging.getLogger(package).setLevel(verbosity.upper())
    if verbosity != "debug":
        # Its warnings are of its own functions that are deprecated.
        logging.getLogger("tensorflow").setLevel(logging.ERROR)
        # Processes that are started here inherit it.
        os.environ.setdefault(_TENSORFLOW_LEVEL, "2")


def _log_to_stderr() -> None:
    logging.basicConfig(
        format="%(asctime)s %(levelname)s %(message)s",
        datefmt="%H:%M:%S",
        level=logging.WARNING,
        handlers=[AboveBars()],
        force=True,
    )


class AboveBars(logging.Handler):
    """Writes to stderr, above the progress bar that may be there."""

    def emit(self, record: logging.LogRecord) -> None:
        """Writes one line."""
        try:
            tqdm.tqdm.write(self.format(record), file=sys.stderr)
        except Exception:
            self.handleError(record)


def import_tensorflow() -> None:
    """Imports TensorFlow without its chatter.

    A process of its own filters standard error meanwhile: it also passes on
    what native code says as it crashes, for example of a CPU without AVX.
    """
    told = logging.getLogger("sicot_tf").isEnabledFor(logging.DEBUG)
    grep = shutil.which("grep")
    if told or not grep or "tensorflow" in sys.modules:
        import tensorflow  # noqa: F401

        return
    sys.stderr.flush()
    stderr = os.dup(2)
    with subprocess.Popen(
        [grep, "--line-buffered", "-vE", _CHATTER],
        stdin=subprocess.PIPE,
        stdout=stderr,
    ) as kept:
        os.dup2(kept.stdin.fileno(), 2)
        try:
            import tensorflow as tf

            # Looks for a GPU, and says that there is none.
            tf.config.list_physical_devices()
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


@contextlib.contextmanager
def mistakes_in_a_sentence() -> Iterator[None]:
    """Ends the process with `error: sentence` for a mistake of its user.

    Also a decorator of `main`. Exit code 2 for a mistake, 1 where the machine
    fails (a disk may have room later), 130 for Ctrl-C. A bug keeps its
    traceback: only what this project raises itself, and what the operating
    system refuses, is told as a sentence.
    """
    try:
        yield
    except KeyboardInterrupt:
        print("\nerror: interrupted.", file=sys.stderr)
        raise SystemExit(_INTERRUPTED) from None
    except BrokenPipeError:
        # `command | head` has read enough. Python would complain at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except Exception as error:
        if not is_mistake(error):
            raise
        print(f"error: {error}", file=sys.stderr)
        machine = isinstance(error, OSError) and not isinstance(
            error,
            FileExistsError
            | FileNotFoundError
            | IsADirectoryError
            | NotADirectoryError
            | PermissionError,
        )
        code = 1 if machine else exit_codes.BAD_INPUT
        raise SystemExit(code) from error


def is_mistake(error: BaseException) -> bool:
    """Whether an exception tells its reader all that is to be told.

    A ValueError that NumPy or Keras raises is a bug of ours; one of a `raise`
    in our own code says what was expected and what to do.
    """
    if isinstance(error, OSError):
        return True
    if not isinstance(error, (ValueError, FloatingPointError)):
        return False
    *_, (frame, line) = traceback.walk_tb(error.__traceback__)
    package = frame.f_globals.get("__package__") or ""
    # TensorFlow leaves its own frames out of what it raises in a tf.function:
    # the last one left calls it.
    statement = linecache.getline(frame.f_code.co_filename, line)
    is_ours = package.partition(".")[0] in _PACKAGES
    return is_ours and statement.lstrip().startswith("raise ")
