"""The connection `snowflake`: its options, and the URI and variables that it resolves to."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from mlflow_connections import (
    AccessError,
    Connection,
    InvalidOptionError,
    MissingOptionError,
    Option,
)
from mlflow_connections.secrets import masked

from ._config import DEFAULT_SECRET, load
from ._names import Identifier, name, stage
from ._session import IDENTITY, SECRETS, is_inside_snowflake
from .store._uri import FLUSH_SECONDS, Bridge

EXTERNAL_FUNCTIONS, EXTERNAL_ACCESS = "external_functions", "external_access"
PASSWORDS = frozenset({"password", "private_key_file_pwd"})
"""Credentials whose white space may be significant."""


def _credential(key: str) -> Option:
    return Option(
        key,
        f"Outside of Snowflake: the connector's parameter {key}, for a separate session.",
        env=f"SNOWFLAKE_{key.upper()}",
        credential=True,
        secret=key in SECRETS,
        strip=key not in PASSWORDS,
        multiline=key == "private_key_raw",
    )


class SnowflakeConnection(Connection):
    """MLflow through Snowflake's external functions, or by HTTPS if the account allows it."""

    declared: ClassVar[tuple[Option, ...]] = (
        Option(
            "mode",
            "How to reach MLflow: external_functions, or external_access for direct HTTPS.",
            default=EXTERNAL_FUNCTIONS,
            choices=(EXTERNAL_FUNCTIONS, EXTERNAL_ACCESS),
        ),
        Option(
            "config", "The path of snowflake.yml, whose section mlflow names functions and stages."
        ),
        Option("database", "Without config: the database of the functions and stages."),
        Option("schema", "Without config: their schema."),
        Option("stage", "Without config: the stage on MLflow's artifact root.", default=None),
        Option("internal_stage", "Without config: the internal stage through which uploads pass."),
        Option("location", "Without config: that stage's URL: s3://…, gcs://… or azure://…."),
        Option(
            "connection",
            "Outside of Snowflake: a connection in connections.toml, for a separate session.",
        ),
        Option(
            "flush_seconds",
            "How many seconds a logged value waits at most before the next call sends it.",
            default=FLUSH_SECONDS,
            type=float,
        ),
        Option("url", "With external_access: MLflow's URL, https://….", env="MLFLOW_SNOWFLAKE_URL"),
        Option(
            "secret",
            "With external_access: the name in the procedure's SECRETS clause.",
            default=DEFAULT_SECRET,
        ),
        *(_credential(key) for key in IDENTITY),
        Option(
            "mlflow_token",
            "With external_access, outside of a procedure: MLflow's token.",
            env="MLFLOW_TRACKING_TOKEN",
            secret=True,
        ),
    )

    def tracking_uri(self, credentials: Mapping[str, Any], options: Mapping[str, Any]) -> str:
        """Return a `snowflake:` URI that describes the bridge, or MLflow's own with external access.

        Raises:
            InvalidOptionError: An option is not a name, or options contradict each other.
            MissingOptionError: `external_access` has no `url`, or `config` cannot be read.
        """
        values = self.values(credentials, options)
        if values["mode"] == EXTERNAL_ACCESS:
            return _url(values)
        return _bridge(values).uri()

    def environment(
        self, credentials: Mapping[str, Any], options: Mapping[str, Any]
    ) -> dict[str, str]:
        """Return the connector's variables, or MLflow's credentials with external access."""
        values = self.values(credentials, options)
        if values["mode"] == EXTERNAL_ACCESS:
            return mlflow_credentials(values["secret"], values["mlflow_token"])
        return {
            f"SNOWFLAKE_{key.upper()}": str(values[key])
            for key in IDENTITY
            if values[key] is not None
        }


def _url(values: Mapping[str, Any]) -> str:
    url = values["url"]
    if url is None:
        raise MissingOptionError(
            "'url' is neither in the connection options nor in the environment variable "
            "MLFLOW_SNOWFLAKE_URL. Mode external_access needs MLflow's URL: add it there."
        )
    if not str(url).startswith("https://"):
        raise InvalidOptionError(f"'url' in the connection options is {url!r}, not https://….")
    return str(url)


def _bridge(values: Mapping[str, Any]) -> Bridge:
    more = {"connection": values["connection"], "flush_seconds": _seconds(values)}
    by_hand = [
        key
        for key in ("database", "schema", "stage", "internal_stage", "location")
        if values[key] is not None
    ]
    if values["config"] is not None:
        if by_hand:
            raise InvalidOptionError(
                f"'config' in the connection options already names {', '.join(by_hand)}. Remove "
                "one or the other."
            )
        return Bridge.of(load(Path(values["config"])), **more)
    if values["location"] is not None:
        location = str(values["location"])
        more["location"] = location if location.endswith("/") else f"{location}/"
    for key, attribute in (("stage", "stage"), ("internal_stage", "uploads")):
        if values[key] is not None:
            more[attribute] = stage(values[key], f"'{key}' in the connection options")
    return Bridge.named(_home(values), **more)


def _seconds(values: Mapping[str, Any]) -> float:
    seconds = float(values["flush_seconds"])
    if not 0 <= seconds < float("inf"):
        raise InvalidOptionError(
            f"'flush_seconds' in the connection options is {seconds}, not a time from 0 on."
        )
    return seconds


def _home(values: Mapping[str, Any]) -> Identifier | None:
    parts = {
        key: name(values[key], f"'{key}' in the connection options", 1).object
        for key in ("database", "schema")
        if values[key] is not None
    }
    if "database" in parts and "schema" not in parts:
        raise MissingOptionError(
            "'schema' is missing in the connection options next to 'database'. Add it."
        )
    return Identifier(tuple(parts.values())) if parts else None


connection = SnowflakeConnection()
"""The object that the entry point names."""


def mlflow_credentials(secret: str, token: str | None) -> dict[str, str]:
    """Return the variables that authenticate MLflow's client.

    Inside a procedure they come from Snowflake's secret store.

    Args:
        secret: The name in the procedure's SECRETS clause.
        token: The token outside of a procedure; None for a server without authentication.

    Raises:
        AccessError: The procedure has no such secret.
        InvalidOptionError: MLflow cannot use a secret of this type.
    """
    if not is_inside_snowflake():
        return {} if token is None else {"MLFLOW_TRACKING_TOKEN": token}
    from snowflake.snowpark import secrets

    try:
        kind = str(secrets.get_secret_type(secret)).upper()
    except Exception as error:  # noqa: BLE001 - raised again
        raise AccessError(
            f"This procedure has no secret {secret!r}. Add SECRETS = ('{secret}' = <the secret>) "
            "and the EXTERNAL_ACCESS_INTEGRATIONS clause to it, or set the option 'secret'."
        ) from masked(error)
    if kind == "GENERIC_STRING":
        token = secrets.get_generic_secret_string(secret)
        # A secret is empty until its value is set.
        return {"MLFLOW_TRACKING_TOKEN": token} if token else {}
    if kind == "PASSWORD":
        pair = secrets.get_username_password(secret)
        return {
            "MLFLOW_TRACKING_USERNAME": pair.username,
            "MLFLOW_TRACKING_PASSWORD": pair.password,
        }
    if kind == "OAUTH2":
        return {"MLFLOW_TRACKING_TOKEN": secrets.get_oauth_access_token(secret)}
    raise InvalidOptionError(
        f"The secret {secret!r} is of the type {kind}, which MLflow's client cannot use. Make it a "
        "GENERIC_STRING with a token, or a PASSWORD."
    )
