"""Keys and certificates of `--ssl_config_file`, checked before gRPC sees them.

gRPC says no more of a wrong key than that it can't bind the port.
"""

import ssl
import tempfile
from typing import Any

import grpc

from sicot_tf.serving import errors
from sicot_tf.serving import serving_config


def read_credentials(path: str) -> grpc.ServerCredentials | None:
    """TLS, or mutual TLS, from a file; None without one.

    Raises:
        tf.errors.OpError: if the file can't be read, or what it holds.
    """
    if not path:
        return None
    config = serving_config.read(path, serving_config.SSLConfig)
    _check(config, path)
    return grpc.ssl_server_credentials(
        [(config.server_key.encode(), config.server_cert.encode())],
        root_certificates=config.custom_ca.encode() or None,
        require_client_auth=config.client_verify,
    )


def _check(config: Any, path: str) -> None:
    """Raises InvalidArgumentError, which names the field that is wrong."""
    if config.client_verify and not config.custom_ca:
        raise errors.invalid(
            f"Wrong custom_ca in {path}: client_verify needs the certificate "
            "that the clients' are signed with."
        )
    for field in ("server_cert", "custom_ca"):
        text = getattr(config, field)
        if not text and field == "custom_ca":
            continue
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(
                # Names in a comment may be in any script.
                cadata=text.encode("ascii", "ignore").decode()
            )
        except (ssl.SSLError, ValueError) as error:
            raise errors.invalid(
                f"Wrong {field} in {path}: expected the text of a PEM "
                f"certificate, no file name: {error}"
            ) from error
    # ssl reads the two from files only; nobody else may read this one.
    with tempfile.NamedTemporaryFile("w", encoding="utf-8") as file:
        file.write(f"{config.server_cert}\n{config.server_key}\n")
        file.flush()
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
                # Nobody is there to type one.
                file.name,
                password=lambda: "",
            )
        except ssl.SSLError as error:
            raise errors.invalid(
                f"Wrong server_key in {path}: expected the text of a PEM "
                "private key, neither a file name nor encrypted (openssl pkey "
                f"-in KEY -out PLAIN_KEY), of server_cert: {error}"
            ) from error
