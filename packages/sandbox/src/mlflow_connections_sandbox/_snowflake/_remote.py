"""Where external functions lead: the gateways, the proof of identity, and how patient to be."""

from collections.abc import Sequence

from mlflow_connections_sandbox._kept import Kept

from ._clouds import Clouds, Refused, api_identity
from ._delivery import Bound, Delivery, Policy
from ._errors import external_function
from ._gateway import Gateway


class Remote:
    """The world outside the account.

    Attributes:
        policy: How patient to be, and what to do wrong.
        deliveries: Every HTTP request so far.
    """

    def __init__(self, gateways: Sequence[Gateway], clouds: Clouds) -> None:
        self.policy = Policy()
        self.deliveries: Kept[Delivery] = Kept()
        self._gateways = gateways
        self._clouds = clouds

    def gateway(self, url: str) -> Gateway | None:
        """Give the gateway behind a public URL."""
        for gateway in self._gateways:
            if url == gateway.base or url.startswith((f"{gateway.base}/", f"{gateway.base}?")):
                return gateway
        return None

    def prove(self, bound: Bound, method: str, url: str, body: bytes) -> str:
        """Give the proof of identity of a request.

        Raises:
            SqlError: The cloud does not know Snowflake, any more or yet.
        """
        try:
            return self._clouds.prove(api_identity(bound.integration.properties), method, url, body)
        except Refused as refused:
            raise external_function(bound.function.name[-1], f". Error: {refused}") from refused
