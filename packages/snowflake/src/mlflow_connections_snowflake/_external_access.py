"""External access: a procedure that may speak HTTPS to MLflow itself, where the account allows it.

Trial accounts refuse it (error 509009).
"""

from mlflow_connections import AccessError, InvalidOptionError

DEFAULT_SECRET = "mlflow_token"  # noqa: S105 - a name
"""What the procedure's clause `SECRETS = ('mlflow_token' = …)` calls MLflow's secret."""


def mlflow_credentials(secret: str, token: str | None) -> dict[str, str]:
    """Give the variables that authenticate MLflow's client.

    Inside a procedure they come from Snowflake's secret store, and nowhere else are they written.

    Args:
        secret: The name in the procedure's SECRETS clause.
        token: What to use outside of a procedure; None for a server that wants nothing.

    Raises:
        AccessError: The procedure has no such secret.
        InvalidOptionError: The secret is of a kind that MLflow has no use for.
    """
    from snowflake.snowpark import secrets

    try:
        kind = str(secrets.get_secret_type(secret)).upper()
    except NotImplementedError:
        # What Snowpark raises where there is no secret store: this is no procedure.
        return {} if token is None else {"MLFLOW_TRACKING_TOKEN": token}
    except Exception as error:
        raise AccessError(
            f"This procedure has no secret {secret!r}: add SECRETS = ('{secret}' = <the secret>) "
            "and the EXTERNAL_ACCESS_INTEGRATIONS clause to it, or set the option 'secret'."
        ) from error
    if kind == "GENERIC_STRING":
        return {"MLFLOW_TRACKING_TOKEN": secrets.get_generic_secret_string(secret)}
    if kind == "PASSWORD":
        pair = secrets.get_username_password(secret)
        return {
            "MLFLOW_TRACKING_USERNAME": pair.username,
            "MLFLOW_TRACKING_PASSWORD": pair.password,
        }
    if kind == "OAUTH2":
        return {"MLFLOW_TRACKING_TOKEN": secrets.get_oauth_access_token(secret)}
    raise InvalidOptionError(
        f"The secret {secret!r} is of the type {kind}, of which MLflow's client has no use: make "
        "it a GENERIC_STRING with a token, or a PASSWORD."
    )
