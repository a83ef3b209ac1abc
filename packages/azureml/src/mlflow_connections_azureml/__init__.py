"""The MLflow connection `azureml`: the tracking URI of an Azure Machine Learning workspace."""

from typing import TYPE_CHECKING, Any

from ._connection import AzureMLConnection

if TYPE_CHECKING:
    from ._authenticator import AzureMLAuthenticator, open_authenticator

connection = AzureMLConnection()
"""The instance that is registered under the keyword `azureml`."""

__all__ = ["AzureMLAuthenticator", "AzureMLConnection", "connection", "open_authenticator"]


def __getattr__(name: str) -> Any:
    # Whoever only lists connections needs neither.
    if name in {"AzureMLAuthenticator", "open_authenticator"}:
        from . import _authenticator

        return getattr(_authenticator, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
