"""How every command ends for a mistake of its user."""

import contextlib
import io


@contextlib.contextmanager
def assert_told(test, message):
    """Expects `error: ...` with a message on stderr, and exit code 2."""
    told = io.StringIO()
    with contextlib.redirect_stderr(told), test.assertRaises(SystemExit) as end:
        yield
    test.assertEqual(end.exception.code, 2)
    test.assertRegex(told.getvalue(), f"(?m)^error: .*{message}")
