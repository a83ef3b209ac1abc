"""The connection: what it can be told, and the URI and variables that come of it."""

import os
from collections.abc import Mapping
from typing import Any

from mlflow_connections import Connection, InvalidOptionError, Option
from mlflow_connections.options import read_options

from ._account import Account, check_host

AUTH_TYPE = "DATABRICKS_AUTH_TYPE"

# With `databricks://<profile>` databricks-sdk takes whatever of these is set, and only the rest from
# the profile (Config._known_file_config_loader of databricks-sdk 0.156): the run would go elsewhere.
_BEFORE_A_PROFILE = (
    "DATABRICKS_HOST",
    "DATABRICKS_TOKEN",
    "DATABRICKS_CLIENT_ID",
    "DATABRICKS_CLIENT_SECRET",
    "DATABRICKS_USERNAME",
    "DATABRICKS_PASSWORD",
    AUTH_TYPE,
)
_BEFORE_A_HOST = ("DATABRICKS_CONFIG_PROFILE",)


class DatabricksConnection(Connection):
    """`databricks`, a profile, or a workspace with a token or an OAuth client.

    With nothing given it is MLflow's own word: MLflow then reads its variables and profiles itself,
    and nothing is exported. As a registry the keyword is the workspace's legacy registry.
    """

    declared = (
        Option("profile", "The profile of ~/.databrickscfg to connect with."),
        Option("host", "The workspace's address with its scheme, https://…", env="DATABRICKS_HOST"),
        Option("token", "A personal access token.", env="DATABRICKS_TOKEN", secret=True),
        Option(
            "client_id",
            "The id of a service principal's OAuth client.",
            env="DATABRICKS_CLIENT_ID",
            credential=True,
        ),
        Option(
            "client_secret",
            "The secret of that OAuth client.",
            env="DATABRICKS_CLIENT_SECRET",
            secret=True,
        ),
    )

    def tracking_uri(self, credentials: Mapping[str, Any], options: Mapping[str, Any]) -> str:
        """Give `databricks`, or `databricks://<profile>`.

        Raises:
            InvalidOptionError: What is given contradicts itself, or a value cannot work.
            MissingOptionError: Something is given, but not all that it needs.
        """
        account = self._account(credentials, options)
        return "databricks" if account.profile is None else f"databricks://{account.profile}"

    def environment(
        self, credentials: Mapping[str, Any], options: Mapping[str, Any]
    ) -> dict[str, str]:
        """Give the account's variables, and empty what is set now and would lead elsewhere.

        An empty variable counts as absent for MLflow and databricks-sdk.

        Raises:
            InvalidOptionError: As for `tracking_uri`.
            MissingOptionError: As for `tracking_uri`.
        """
        account = self._account(credentials, options)
        if account == Account():
            return {}
        leading_elsewhere = _BEFORE_A_HOST if account.profile is None else _BEFORE_A_PROFILE
        emptied = {name: "" for name in leading_elsewhere if os.environ.get(name)}
        return {**emptied, **account.variables}

    def _account(self, credentials: Mapping[str, Any], options: Mapping[str, Any]) -> Account:
        given = {
            option.name
            for option in self.declared
            if (credentials if option.in_credentials else options).get(option.name) is not None
        }
        if not given:
            return Account()
        _refuse_contradictions(given)
        readings = {r.option.name: r for r in read_options(self.declared, credentials, options)}
        if "profile" in given:
            return Account.of_profile(readings["profile"].value)
        host = readings["host"]
        if host.value is not None:
            host = host._replace(value=check_host(host.value, host.source == "environment"))
        return Account.of({**readings, "host": host}, given)


def _refuse_contradictions(given: set[str]) -> None:
    others = sorted(given - {"profile"})
    if "profile" in given and others:
        raise InvalidOptionError(
            f"'profile' is given together with {', '.join(map(repr, others))}: a profile holds the "
            "address and the credentials, so keep either the profile or the others."
        )
    client = sorted(given & {"client_id", "client_secret"})
    if "token" in given and client:
        raise InvalidOptionError(
            f"'token' is given together with {', '.join(map(repr, client))} in the credentials: "
            "Databricks accepts one method, so keep either the token or the OAuth client."
        )
