"""The connection: its options, and the URI and variables derived from them."""

import os
from collections.abc import Mapping
from typing import Any

from mlflow_connections import Connection, InvalidOptionError, Option
from mlflow_connections.options import OptionValue, read_options

from ._account import (
    AUTH_TYPE,
    HOST,
    Account,
    Identity,
    check_credential,
    check_host,
    read_environment,
    stripped,
)


class DatabricksConnection(Connection):
    """`databricks`, a profile, or a workspace with a token, an OAuth client or another method.

    Without options it is MLflow's own URI: MLflow reads its variables and profiles itself, and
    nothing is exported. As a registry, the keyword is the workspace's legacy registry.
    """

    declared = (
        Option("profile", "The profile of ~/.databrickscfg to connect with."),
        Option("host", "The workspace's address with its scheme, https://…", env="DATABRICKS_HOST"),
        Option(
            "auth_type",
            "The method of databricks-sdk to sign in by, such as azure-cli, github-oidc or "
            "databricks-cli; by default it follows from the credentials.",
            env=AUTH_TYPE,
        ),
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
        """Return `databricks`, or `databricks://<profile>`.

        Raises:
            InvalidOptionError: Options contradict each other, or a value is invalid.
            MissingOptionError: Some values are given, but not all that they need.
        """
        account = self._account(credentials, options)
        return "databricks" if account.profile is None else f"databricks://{account.profile}"

    def environment(
        self, credentials: Mapping[str, Any], options: Mapping[str, Any]
    ) -> dict[str, str]:
        """Return the account's variables, and empty ones for variables that would select another account.

        MLflow and databricks-sdk treat an empty variable as absent.

        Raises:
            InvalidOptionError: As for `tracking_uri`.
            MissingOptionError: As for `tracking_uri`.
        """
        # Without options the account has no variables.
        return dict(self._account(credentials, options).variables) or self._trimmed()

    def binder(self, credentials: Mapping[str, Any], options: Mapping[str, Any]) -> Identity:
        """Return the identity of the account, by which a boundary distinguishes accounts."""
        return Identity(self._account(credentials, options), read_environment())

    def _account(self, credentials: Mapping[str, Any], options: Mapping[str, Any]) -> Account:
        given = {
            option.name
            for option in (self.declared if credentials or options else ())
            if (credentials if option.in_credentials else options).get(option.name) is not None
        }
        if not given:
            return Account()
        _refuse_contradictions(given)
        read = read_options(self.declared, credentials, options)
        if "profile" in given:
            values = {each.option.name: each for each in read}
            auth_type = values["auth_type"].value if "auth_type" in given else None
            return Account.of_profile(str(values["profile"].value), auth_type)
        values = {each.option.name: stripped(each) for each in read}
        _check_credentials(values, given)
        host = values["host"]
        if host.value is not None:
            host = host._replace(value=check_host(host.value, host.source == "environment"))
        return Account.of_workspace({**values, "host": host}, given)

    def _trimmed(self) -> dict[str, str]:
        """Return, stripped, the variables that have surrounding white space.

        Of the options only: `resolve` does the same with every variable of a credential.
        """
        values = {name: os.environ.get(name, "") for name in (HOST, AUTH_TYPE)}
        return {name: v.strip() for name, v in values.items() if v != v.strip()}


def _check_credentials(values: Mapping[str, OptionValue], given: set[str]) -> None:
    for name in ("token", "client_id", "client_secret"):
        # A leftover in the environment is refused only if no given value replaces it.
        others_given = given & {"token", "client_id", "client_secret"}
        if values[name].value is not None and (name in given or not others_given):
            check_credential(values[name])


def _refuse_contradictions(given: set[str]) -> None:
    others = sorted(given - {"profile", "auth_type"})
    if "profile" in given and others:
        raise InvalidOptionError(
            f"'profile' is given together with {', '.join(map(repr, others))}: a profile holds the "
            "address and the credentials, so keep the profile or the others."
        )
    client = sorted(given & {"client_id", "client_secret"})
    if "token" in given and client:
        raise InvalidOptionError(
            f"'token' is given together with {', '.join(map(repr, client))} in the credentials: "
            "Databricks accepts one method, so keep the token or the OAuth client."
        )
