"""Check the TLS handshake once: MLflow retries one that cannot succeed for minutes, and explains little.

With TLS 1.3 a server refuses a missing client certificate only after the handshake, so one small
request is sent. It carries no credentials but the certificate.
"""

import os
import time
from typing import Any

from mlflow_connections import AccessError

from ._sources import why

_ANSWERS_WITHIN = 10.0  # seconds
_PAUSES = (0.2, 0.5)  # seconds before the second and the third attempt
# MLflow reads these for each request; a child process has nothing else.
_CERTIFICATE = "MLFLOW_TRACKING_CLIENT_CERT_PATH"
_AUTHORITY = "MLFLOW_TRACKING_SERVER_CERT_PATH"
_INSECURE = "MLFLOW_TRACKING_INSECURE_TLS"
_OFF = frozenset({"", "0", "false", "no"})


def check_handshake(origin: str) -> None:
    """Open one connection to an https server as MLflow does.

    A server that cannot be reached is not an error: it may come back, and MLflow waits for it.

    Raises:
        AccessError: The server is not trusted, or refuses the client certificate or its absence.
    """
    for pause in _PAUSES:
        if not _is_closed(origin):
            return
        time.sleep(pause)  # a server that restarts closes connections too
    if _is_closed(origin):
        raise AccessError(_explain(origin, "it closed the connection"))


def _is_closed(origin: str) -> bool:
    """Send a request and return whether the server closed the connection without a response."""
    import requests

    try:
        requests.head(
            origin,
            auth=_bare,  # without one, requests would read ~/.netrc
            cert=_file(_CERTIFICATE),
            verify=_file(_AUTHORITY) or os.environ.get(_INSECURE, "").lower() in _OFF,
            allow_redirects=False,
            timeout=_ANSWERS_WITHIN,
        ).close()
    except requests.exceptions.SSLError as error:
        raise AccessError(_explain(origin, why(error))) from None
    except requests.ConnectionError as error:
        return "onnection aborted" in str(error)
    except requests.RequestException:
        return False
    except OSError as error:  # a file that requests cannot read
        raise AccessError(f"The files for TLS with {origin} cannot be used: {error}.") from None
    return False


def _explain(origin: str, reason: str) -> str:
    if "verify failed" in reason or "hostname" in reason.lower():
        remedy = (
            "check that 'ca_file' has the authority of its certificate"
            if _file(_AUTHORITY)
            else "set 'ca_file' to the authority of its certificate"
        )
        return f"The certificate of {origin} is not trusted ({reason}): {remedy}."
    if _file(_CERTIFICATE) is None:
        return (
            f"{origin} ended the TLS handshake ({reason}), most likely because it wants a client certificate: set "
            "'client_certificate' and 'client_key'."
        )
    return (
        f"{origin} refuses the client certificate ({reason}): check that 'client_certificate' is issued by an "
        "authority that the server accepts, and is still valid."
    )


def _file(variable: str) -> str | None:
    return os.environ.get(variable) or None


def _bare(request: Any) -> Any:
    return request
