"""The contract of every connection, as a test class for authors of connections to subclass.

Needs pytest. In a test module of the plugin:

    from mlflow_connections.testing import ConnectionContract

    class TestMyConnection(ConnectionContract):
        keyword = "my_connection"
        options = {"workspace": "dev"}

pytest then runs each of its tests against the installed plugin.
"""

import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import pytest

from ._connection import Connection
from ._endpoint import Endpoint
from ._errors import InvalidOptionError, MissingOptionError
from ._resolve import resolve
from ._use import use
from .discovery import find_connection, installed_connections, is_keyword
from .options import Option, declared_options

__all__ = ["ConnectionContract"]

SECRET = "s3cr3t-of-the-contract"  # noqa: S105 - must never be shown


class ConnectionContract:
    """Subclass it, and set the keyword and the values to resolve it with.

    Attributes:
        keyword: The keyword of the connection.
        credentials: Credentials with which it resolves without a server; may be empty.
        options: Options with which it resolves.
        tracking_uri: The expected URI; None accepts any.
        forbidden_imports: Modules that finding the connection must not import.
    """

    keyword: ClassVar[str]
    credentials: ClassVar[Mapping[str, Any]] = {}
    options: ClassVar[Mapping[str, Any]] = {}
    tracking_uri: ClassVar[str | None] = None
    forbidden_imports: ClassVar[tuple[str, ...]] = ("mlflow", "kedro")

    @pytest.fixture(autouse=True)
    def _clean_environment(self) -> Iterator[None]:
        """Remove the variables that the connection declares; restore all of them after each test."""
        before = dict(os.environ)
        for option in self.declared():
            if option.env:
                os.environ.pop(option.env, None)
        yield
        os.environ.clear()
        os.environ.update(before)

    def connection(self) -> Connection:
        """Return the connection as users get it."""
        return find_connection(self.keyword)

    def declared(self) -> tuple[Option, ...]:
        """Return its declared options."""
        return declared_options(self.connection())

    def resolved(self) -> Endpoint:
        """Resolve it with the credentials and options of this class."""
        return resolve(self.keyword, self.credentials, self.options)

    def test_has_one_owner(self) -> None:
        """The keyword is one bare word, registered by exactly one distribution."""
        assert is_keyword(self.keyword)
        assert len([f for f in installed_connections() if f.keyword == self.keyword]) == 1

    def test_gives_a_uri(self) -> None:
        """The tracking URI is text, and is the expected one."""
        uri = self.resolved().tracking_uri
        assert isinstance(uri, str)
        assert uri.strip()
        if self.tracking_uri is not None:
            assert uri == self.tracking_uri

    def test_gives_a_registry_uri(self) -> None:
        """If the keyword is named as the registry, the registry URI is text too."""
        endpoint = resolve(self.keyword, self.credentials, self.options, registry=self.keyword)
        assert endpoint.registry_uri
        assert endpoint.registry_uri.strip()

    def test_resolves_alike_twice(self) -> None:
        """Resolving keeps no state: the second endpoint equals the first."""
        assert self.resolved() == self.resolved()

    def test_leaves_its_arguments_alone(self) -> None:
        """Resolving does not change the mappings that were passed."""
        credentials, options = dict(self.credentials), dict(self.options)
        resolve(self.keyword, credentials, options)
        assert (credentials, options) == (dict(self.credentials), dict(self.options))

    def test_leaves_the_process_alone(self) -> None:
        """Resolving changes no environment variable, and `use` restores all of them."""
        before = dict(os.environ)
        self.resolved()
        assert dict(os.environ) == before
        with use(self.keyword, self.credentials, self.options) as endpoint:
            assert os.environ["MLFLOW_TRACKING_URI"] == endpoint.tracking_uri
        assert dict(os.environ) == before

    def test_declares_options_that_help(self) -> None:
        """Each declared option has a unique name, a line of help and a default of its type."""
        names = [option.name for option in self.declared()]
        assert len(names) == len(set(names))
        for option in self.declared():
            assert option.help.strip()
            assert "\n" not in option.help
            assert option.default is None or isinstance(option.default, option.type)
            assert not (option.required and option.default is not None)

    def test_names_every_missing_option_at_once(self) -> None:
        """Without any value, one error names all required options and their variables."""
        required = [option for option in self.declared() if option.required]
        if not required:
            assert resolve(self.keyword).tracking_uri
            return
        with pytest.raises(MissingOptionError) as caught:
            resolve(self.keyword)
        for option in required:
            assert option.name in str(caught.value)
            assert (option.env or "") in str(caught.value)

    def test_refuses_secrets_among_the_options(self, caplog: pytest.LogCaptureFixture) -> None:
        """A secret among the options is refused by name, and its value is never shown."""
        secrets = [option.name for option in self.declared() if option.secret] or ["password"]
        with caplog.at_level(logging.DEBUG):
            for name in secrets:
                with pytest.raises(InvalidOptionError) as caught:
                    resolve(self.keyword, self.credentials, {**self.options, name: SECRET})
                assert name in str(caught.value)
                assert SECRET not in repr(caught.value)
        assert SECRET not in caplog.text

    def test_hides_its_secrets(self) -> None:
        """No secret appears in the repr of the endpoint."""
        secrets = {option.name for option in self.declared() if option.secret}
        shown = repr(self.resolved())
        for name, value in self.credentials.items():
            assert name not in secrets or str(value) not in shown

    def test_is_found_cheaply(self) -> None:
        """Finding the connection imports no forbidden module."""
        code = (
            "import sys; from mlflow_connections.discovery import find_connection; "
            f"find_connection({self.keyword!r}); "
            f"print(*[m for m in {self.forbidden_imports!r} if m in sys.modules])"
        )
        found = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        assert found.stdout.split() == []
