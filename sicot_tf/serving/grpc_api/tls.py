"""Checks keys and certificates before gRPC sees them.

gRPC says no more of a wrong key than that it can't bind the port.
"""

import ssl
import sys
import tempfile
import time
from typing import Any

import tensorflow as tf


def check(config: Any, path: str) -> None:
    """Raises unless the texts of an SSLConfig are what they should be.

    A certificate that has expired, as every client will say, is only logged:
    the REST port works without it.

    Args:
        config: of `serving_config.read_ssl_config`.
        path: its file, for the errors.

    Raises:
        tf.errors.InvalidArgumentError: with a sentence that names the field.
    """
    for field in ("server_key", "server_cert"):
        if not getattr(config, field):
            raise _error(path, field, "it is missing")
    if config.client_verify and not config.custom_ca:
        raise _error(
            path,
            "custom_ca",
            "client_verify needs the certificate that the clients' are "
            "signed with",
        )
    for field in ("server_cert", "custom_ca"):
        if getattr(config, field):
            _check_certificate(path, field, getattr(config, field))
    if "ENCRYPTED" in config.server_key:
        raise _error(
            path,
            "server_key",
            "the key is encrypted, and nobody is there to give its password; "
            "take it off with `openssl pkey -in KEY -out PLAIN_KEY`",
        )
    if "PRIVATE KEY-----" not in config.server_key:
        raise _error(path, "server_key", _not_pem("private key"))
    _check_pair(path, config.server_key, config.server_cert)


def _check_certificate(path: str, field: str, text: str) -> None:
    if "-----BEGIN CERTIFICATE-----" not in text:
        raise _error(path, field, _not_pem("certificate"))
    # Names in a comment may be in any script.
    ascii_text = text.encode("ascii", "ignore").decode()
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(
            cadata=ascii_text
        )
    except (ssl.SSLError, ValueError) as error:
        raise _error(path, field, f"it can't be read: {error}") from error


def _check_pair(path: str, key: str, certificate: str) -> None:
    """Raises if the key is damaged or that of another certificate."""
    # ssl reads the two from files only; nobody else may read this one.
    with tempfile.NamedTemporaryFile("w", encoding="utf-8") as file:
        file.write(f"{certificate}\n{key}\n")
        file.flush()
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(file.name)
        except ssl.SSLError as error:
            reason = (
                "it is not the key of the certificate in server_cert"
                if error.reason == "KEY_VALUES_MISMATCH"
                else f"it can't be read: {error}"
            )
            raise _error(path, "server_key", reason) from error
        end = ssl._ssl._test_decode_cert(file.name)["notAfter"]
    if ssl.cert_time_to_seconds(end) < time.time():
        print(
            f"Warning: the certificate in server_cert of {path} expired on "
            f"{end}; clients will refuse it.",
            file=sys.stderr,
            flush=True,
        )


def _not_pem(kind: str) -> str:
    return (
        f"the text of a PEM {kind} has to stand there, from -----BEGIN to "
        "-----END, no file name"
    )


def _error(
    path: str, field: str, reason: str
) -> tf.errors.InvalidArgumentError:
    return tf.errors.InvalidArgumentError(
        None, None, f"Wrong {field} in {path}: {reason}."
    )
