"""How a command ends that can't do what it was asked: in one sentence.

A bug keeps its traceback: only what this project raises itself, and what the
operating system refuses, is told as a sentence. Loads neither TensorFlow nor
gRPC.
"""

import contextlib
import linecache
import sys
import traceback
from collections.abc import Iterator

from sicot_tf.workers import exit_codes

_PACKAGES = ("sicot_tf", "beam_jobs")
# As a shell says it: 128 + SIGINT.
_INTERRUPTED = 130


@contextlib.contextmanager
def in_a_sentence(command: str) -> Iterator[None]:
    """Ends the process with `command: sentence` for a mistake of its user.

    Also a decorator of `main`. Exit code 2 for bad input, 1 where the
    operating system refuses (a disk may have room later), 130 for Ctrl-C.
    """
    try:
        yield
    except KeyboardInterrupt:
        print(f"\n{command}: interrupted.", file=sys.stderr)
        raise SystemExit(_INTERRUPTED) from None
    except Exception as error:
        if not is_mistake(error):
            raise
        print(f"{command}: {error}", file=sys.stderr)
        code = 1 if isinstance(error, OSError) else exit_codes.BAD_INPUT
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
