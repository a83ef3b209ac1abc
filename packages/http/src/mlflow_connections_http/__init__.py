"""The connection `http`: an MLflow server behind tokens that expire, secret headers or client certificates.

- `_connection`: the options, and the resolved endpoint.
- `_sources`: sources of headers, such as a token endpoint, a file or a command.
- `_google`: Google's identity tokens.
- `_authenticator`: adds headers to each request, retries once after 401, refuses login pages.
- `_handshake`: explains a refused TLS connection in one sentence.
- `_certificates`: client certificates in the form that MLflow reads.
"""

from typing import TYPE_CHECKING

from mlflow_connections.lazy import lazy_names

from ._connection import HttpConnection

if TYPE_CHECKING:
    from ._authenticator import HttpAuthenticator, open_authenticator

__all__ = ["HttpAuthenticator", "HttpConnection", "connection", "open_authenticator"]

connection = HttpConnection()
"""The instance that is registered under the keyword `http`."""

# These are most of the import time, and listing connections needs neither.
__getattr__, __dir__ = lazy_names(
    __name__, {"HttpAuthenticator": "._authenticator", "open_authenticator": "._authenticator"}
)
