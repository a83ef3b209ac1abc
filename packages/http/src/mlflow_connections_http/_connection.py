"""The connection: its options, and the URI, variables and authenticator derived from them.

Importing it is cheap: the other modules are imported when an endpoint is resolved.
"""

import base64
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from mlflow_connections import Connection, InvalidOptionError, MissingOptionError, Option

if TYPE_CHECKING:
    from mlflow_connections.authentication import Authenticator
    from mlflow_connections.headers import HeaderSource

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_SOURCES: Final = ("client_id", "token_file", "token_command", "google_audience", "username")
_OF_CLIENT = (
    *("issuer", "token_url", "scope", "audience", "resource", "client_assertion_file"),
    "client_secret",
)
# MLflow's own variables that would override the authenticator, or send a secret to every server.
_EMPTIED = ("MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
_SIGV4 = "MLFLOW_TRACKING_AWS_SIGV4"


class HttpConnection(Connection):
    """An MLflow server at a URL, with one source of tokens, secret headers or a client certificate."""

    declared = (
        Option(
            "url",
            "The server's address, https://…",
            env="MLFLOW_CONNECTIONS_HTTP_URL",
            required=True,
        ),
        Option(
            "issuer",
            "The OpenID or OAuth issuer whose metadata names the token endpoint.",
            env="MLFLOW_CONNECTIONS_HTTP_ISSUER",
        ),
        Option(
            "token_url",
            "The token endpoint itself, in place of `issuer`.",
            env="MLFLOW_CONNECTIONS_HTTP_TOKEN_URL",
        ),
        Option(
            "client_id",
            "The client that tokens are issued to.",
            env="MLFLOW_CONNECTIONS_HTTP_CLIENT_ID",
        ),
        Option(
            "client_secret",
            "The secret of that client.",
            env="MLFLOW_CONNECTIONS_HTTP_CLIENT_SECRET",
            secret=True,
        ),
        Option(
            "client_assertion_file",
            "A file with a JWT that proves the client in place of a secret (workload identity).",
            env="MLFLOW_CONNECTIONS_HTTP_CLIENT_ASSERTION_FILE",
        ),
        Option(
            "client_auth",
            "How id and secret are sent to the issuer.",
            default="basic",
            choices=("basic", "post"),
        ),
        Option(
            "scope",
            "The scope to ask for; several are separated by spaces.",
            env="MLFLOW_CONNECTIONS_HTTP_SCOPE",
        ),
        Option("audience", "The audience to ask for.", env="MLFLOW_CONNECTIONS_HTTP_AUDIENCE"),
        Option(
            "resource",
            "The resource to ask for (RFC 8707).",
            env="MLFLOW_CONNECTIONS_HTTP_RESOURCE",
        ),
        Option(
            "token_file",
            "A file with a token, read again when it changes.",
            env="MLFLOW_CONNECTIONS_HTTP_TOKEN_FILE",
        ),
        Option(
            "token_command", "A list: a program that prints a token, with its arguments.", type=list
        ),
        Option(
            "token_timeout",
            "Seconds after which `token_command` is stopped.",
            type=float,
            default=30.0,
        ),
        Option(
            "google_audience", "The audience of Google identity tokens, such as IAP's client id."
        ),
        Option("username", "A user name.", credential=True),
        Option("password", "The password of that user.", secret=True),
        Option(
            "headers",
            "Secret headers to send with each request: names and values.",
            type=dict,
            secret=True,
        ),
        Option("header", "The header that carries the token.", default="Authorization"),
        Option(
            "client_certificate",
            "A PEM file with a client certificate, and its key or not.",
            env="MLFLOW_CONNECTIONS_HTTP_CLIENT_CERTIFICATE",
        ),
        Option(
            "client_key",
            "A PEM file with the key of that certificate.",
            env="MLFLOW_CONNECTIONS_HTTP_CLIENT_KEY",
        ),
        Option(
            "client_key_password",
            "Decrypts that key.",
            env="MLFLOW_CONNECTIONS_HTTP_CLIENT_KEY_PASSWORD",
            secret=True,
        ),
        Option(
            "ca_file",
            "A PEM file with the certificates to trust server and issuer by.",
            env="MLFLOW_CONNECTIONS_HTTP_CA_FILE",
        ),
        Option(
            "allow_http",
            "Send credentials without TLS to a host other than this one.",
            type=bool,
            default=False,
        ),
        Option(
            "share_with_workers",
            "Put the secret into the environment of child processes, for those that outlive this one.",
            type=bool,
            default=False,
        ),
    )

    def tracking_uri(self, credentials: Mapping[str, Any], options: Mapping[str, Any]) -> str:
        """Return the server's URL.

        Raises:
            MissingOptionError: A source of tokens lacks an option.
            InvalidOptionError: Options contradict each other, or the URL is invalid or not safe.
        """
        values = self.values(credentials, options)
        return str(values["url"]).rstrip("/")

    def environment(
        self, credentials: Mapping[str, Any], options: Mapping[str, Any]
    ) -> dict[str, str]:
        """Return the variables for certificates, and empty ones for MLflow's that would override or leak.

        Raises:
            InvalidOptionError: As for `tracking_uri`, or a certificate cannot be read.
        """
        values = self.values(credentials, options)
        environment = {name: "" for name in _EMPTIED if os.environ.get(name)}
        if os.environ.get(_SIGV4):
            environment[_SIGV4] = "false"
        if values["ca_file"]:
            environment["MLFLOW_TRACKING_SERVER_CERT_PATH"] = values["ca_file"]
            if os.environ.get("MLFLOW_TRACKING_INSECURE_TLS"):
                environment["MLFLOW_TRACKING_INSECURE_TLS"] = "false"
        if values["client_certificate"]:
            from ._certificates import certificate_file

            environment["MLFLOW_TRACKING_CLIENT_CERT_PATH"] = certificate_file(
                *(
                    values[name]
                    for name in ("client_certificate", "client_key", "client_key_password")
                )
            )
        return environment

    def binder(
        self, credentials: Mapping[str, Any], options: Mapping[str, Any]
    ) -> "Authenticator | None":
        """Return the authenticator of requests to the server.

        Raises:
            MissingOptionError: As for `tracking_uri`.
            InvalidOptionError: As for `tracking_uri`.
        """
        from mlflow_connections.authentication import origin_of

        from ._authenticator import HttpAuthenticator

        values = self.values(credentials, options)
        return HttpAuthenticator(
            origin_of(values["url"]),
            _source(values),
            share=values["share_with_workers"],
            joined=_is_joined(values),
        )

    def values(self, credentials: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
        """Read and check all options. A given source of tokens takes precedence over one named only by a variable.

        Raises:
            MissingOptionError: A source of tokens lacks an option.
            InvalidOptionError: Options contradict each other, or a URL is invalid or not safe.
        """
        values = super().values(credentials, options)
        given = {
            name for name in _SOURCES if (credentials if name == "username" else options).get(name)
        }
        for name in _SOURCES:
            if given and name not in given:
                values[name] = None
        if values["client_id"] is None and given:
            explicit = {*credentials, *options}
            values |= dict.fromkeys([name for name in _OF_CLIENT if name not in explicit])
        _check(values)
        return values


def _is_joined(values: Mapping[str, Any]) -> bool:
    """Return whether certificate and key are joined in a file that is removed when this process ends."""
    from ._certificates import certificate_file

    path = values["client_certificate"]
    names = ("client_certificate", "client_key", "client_key_password")
    return path is not None and certificate_file(*(values[name] for name in names)) != path


def _check(values: Mapping[str, Any]) -> None:
    for name in ("url", "issuer", "token_url"):
        if values[name]:
            _check_url(values, name)
    _check_source(values)
    if values["client_key"] and not values["client_certificate"]:
        raise MissingOptionError(
            "'client_key' is given without 'client_certificate': add the certificate's file."
        )
    for name, value in (values["headers"] or {}).items():
        if not (isinstance(name, str) and isinstance(value, str) and _is_header(name, value)):
            raise InvalidOptionError(
                f"'headers' in the credentials: {name!r} is not a header, or its value has a line break "
                "or characters outside ASCII."
            )


def _check_source(values: Mapping[str, Any]) -> None:
    chosen = [name for name in _SOURCES if values[name] is not None]
    if len(chosen) > 1:
        named = " and ".join(f"'{name}'" for name in chosen)
        raise InvalidOptionError(
            f"{named} are given together: a request carries one token, so keep one of them."
        )
    stray = [name for name in _OF_CLIENT if values[name] is not None]
    if stray and "client_id" not in chosen:
        raise MissingOptionError(
            f"'{stray[0]}' is given without 'client_id': add the client it belongs to."
        )
    if "client_id" in chosen:
        _check_client(values)
    if (values["username"] is None) != (values["password"] is None):
        raise MissingOptionError(
            "'username' and 'password' belong together in the credentials: give both."
        )
    command = values["token_command"]
    if command is not None and not (command and all(isinstance(each, str) for each in command)):
        raise InvalidOptionError(
            "'token_command' must be a list of strings: a program and its arguments."
        )


def _is_header(name: str, value: str) -> bool:
    return (
        bool(name)
        and (name + value).isascii()
        and name.replace("-", "a").isalnum()
        and value.isprintable()
    )


def _check_client(values: Mapping[str, Any]) -> None:
    if bool(values["issuer"]) == bool(values["token_url"]):
        raise InvalidOptionError("A client needs either 'issuer' or 'token_url': give one of them.")
    given = [values["client_secret"], values["client_assertion_file"]]
    if given.count(None) != 1 and not (given.count(None) == 2 and _from_parent(values)):
        raise MissingOptionError(
            "A client needs either 'client_secret' in the credentials or 'client_assertion_file': give one of them."
        )


def _from_parent(values: Mapping[str, Any]) -> "HeaderSource | None":
    """Return the source that asks the parent, which keeps the secret under `mlflow-connections run`."""
    from mlflow_connections.authentication import from_parent, origin_of

    from ._authenticator import HttpAuthenticator

    origin = origin_of(values["url"])
    return next(
        (each for each in from_parent(HttpAuthenticator.opener) if each.origin == origin), None
    )


def _check_url(values: Mapping[str, Any], name: str) -> None:
    from mlflow_connections.authentication import origin_of

    url = values[name]
    try:
        origin_of(url)
    except InvalidOptionError:
        raise InvalidOptionError(f"'{name}' must begin with https:// and name a host.") from None
    parts = urlsplit(url)
    if parts.username or parts.password or parts.query or parts.fragment:
        raise InvalidOptionError(
            f"'{name}' must have no user, query or fragment: credentials have keys of their own."
        )
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK and not values["allow_http"]:
        raise InvalidOptionError(
            f"'{name}' is http:// on another host, where everybody on the way reads the credentials: "
            "use https://, or set `allow_http: true`."
        )


def _source(values: Mapping[str, Any]) -> "HeaderSource":
    from . import _sources as sources

    header = sources.TokenHeader(values["header"])
    extra: Mapping[str, str] = values["headers"] or {}
    source: HeaderSource | None = None
    if values["client_id"] is not None:
        proofs = values["client_secret"], values["client_assertion_file"]
        if proofs == (None, None) and (parent := _from_parent(values)) is not None:
            return parent
        source = sources.ClientCredentials(
            issuer=values["issuer"],
            token_url=values["token_url"],
            client_id=values["client_id"],
            client_secret=values["client_secret"],
            client_assertion_file=values["client_assertion_file"],
            client_auth=values["client_auth"],
            parameters={
                name: values[name] for name in ("scope", "audience", "resource") if values[name]
            },
            ca_file=values["ca_file"],
            header=header,
        )
    elif values["token_file"] is not None:
        source = sources.TokenFile(values["token_file"], header)
    elif values["token_command"] is not None:
        source = sources.TokenCommand(
            tuple(values["token_command"]), values["token_timeout"], header
        )
    elif values["google_audience"] is not None:
        source = sources.GoogleIdentity(values["google_audience"], header)
    elif values["username"] is not None:
        pair = f"{values['username']}:{values['password']}"
        return sources.Fixed(
            {values["header"]: f"Basic {base64.b64encode(pair.encode()).decode()}", **extra}
        )
    if source is None:
        return sources.Fixed(extra)
    return sources.WithFixed(source, extra) if extra else source
