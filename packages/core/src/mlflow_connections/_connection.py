"""The protocol of every connection."""

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, overload

from ._endpoint import Endpoint
from ._errors import MissingOptionError
from .options import Option, read_options, require
from .secrets import looks_secret, remember

if TYPE_CHECKING:
    from ._binder import Binder

__all__ = ["Connection", "KedroMlflowConnection"]

T = TypeVar("T")
_ABSENT: Any = object()


class Connection(ABC):
    """Turns credentials and options into the URIs that MLflow needs.

    Only `tracking_uri` is required. An instance (or the class itself) is registered under its
    keyword in the entry-point group `kedro_mlflow.connections`. A subclass may declare its inputs
    in `declared`, from which validation, `mlflow-connections show`, the documentation and the JSON
    schema of mlflow.yml are derived. A connection that declares nothing receives everything the
    user wrote.
    """

    declared: ClassVar[Sequence[Option]] = ()
    """The options and credentials that this connection reads, in display order."""

    @abstractmethod
    def tracking_uri(self, credentials: Mapping[str, Any], options: Mapping[str, Any]) -> str:
        """Return the URI for `mlflow.set_tracking_uri`.

        Args:
            credentials: The entry of `credentials.yml` named by `server.credentials`, else empty.
            options: The mapping under `server.connection`, else empty.
        """

    def registry_uri(self, credentials: Mapping[str, Any], options: Mapping[str, Any]) -> str:
        """Return the URI for `mlflow.set_registry_uri`; by default the tracking URI."""
        return self.tracking_uri(credentials, options)

    def implied_registry_uri(
        self,
        credentials: Mapping[str, Any],  # noqa: ARG002 - for subclasses
        options: Mapping[str, Any],  # noqa: ARG002
    ) -> str | None:
        """Return the registry URI to set if the user names none; by default None, which leaves it to MLflow.

        MLflow derives the same URI again in each call, which is noticeable only if the connection's
        calls do not wait for a server. A registry URI that is set stays when a program sets another
        tracking URI.
        """
        return None

    def environment(
        self,
        credentials: Mapping[str, Any],  # noqa: ARG002 - for subclasses
        options: Mapping[str, Any],  # noqa: ARG002
    ) -> dict[str, str]:
        """Return the environment variables that the URI needs; by default none."""
        return {}

    def binder(
        self,
        credentials: Mapping[str, Any],  # noqa: ARG002 - for subclasses
        options: Mapping[str, Any],  # noqa: ARG002
    ) -> "Binder | None":
        """Return an identity to activate that no variable can hold; by default none.

        Called after `tracking_uri` and `environment`.
        """
        return None

    def inner_endpoint(
        self,
        credentials: Mapping[str, Any],  # noqa: ARG002 - for subclasses
        options: Mapping[str, Any],  # noqa: ARG002
    ) -> Endpoint | None:
        """Return the server behind this connection, if it only wraps one.

        Its identities are activated with this endpoint. If that server is already in force with the
        same identity, its active run, experiment and credentials stay in force. By default None:
        the connection has its own server.
        """
        return None

    def prepared(
        self,
        credentials: Mapping[str, Any],  # noqa: ARG002 - for subclasses
        options: Mapping[str, Any],  # noqa: ARG002
    ) -> "Connection":
        """Return the connection whose methods one `resolve` calls, with the same arguments; by default this one.

        For a connection whose methods share work, such as the lookup of another server: it is done
        once, and all methods see the same result. The next `resolve` prepares again.
        """
        return self

    def values(self, credentials: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
        """Read all declared options, converted to their types; None for missing values.

        Raises:
            MissingOptionError: Required options are missing; the message names all of them.
            InvalidOptionError: A value has the wrong type or is none of the choices.
        """
        readings = read_options(self.declared, credentials, options)
        require(readings)
        return {reading.option.name: reading.value for reading in readings}

    @overload
    @staticmethod
    def getkey(mapping: Mapping[str, Any], key: str, envkey: str) -> Any: ...
    @overload
    @staticmethod
    def getkey(mapping: Mapping[str, Any], key: str, envkey: str, default: T) -> Any | T: ...
    @staticmethod
    def getkey(mapping: Mapping[str, Any], key: str, envkey: str, default: Any = _ABSENT) -> Any:
        """Look up a value in the mapping, then in the environment, then in the default.

        None, in the mapping or as the default, counts as missing.

        Raises:
            MissingOptionError: It is in none of them. A KeyError that names both places.
        """
        value = mapping.get(key)
        if value is None:
            value = os.environ.get(envkey)
        if looks_secret(key) or looks_secret(envkey):
            remember(value)
        if value is None and default is not _ABSENT:
            value = default
        if value is None:
            raise MissingOptionError(
                f"'{key}' is neither in the mapping nor in the environment variable {envkey}."
            )
        return value


KedroMlflowConnection = Connection
"""The name of the base class in the specification's `kedro_mlflow.config.connection`."""
