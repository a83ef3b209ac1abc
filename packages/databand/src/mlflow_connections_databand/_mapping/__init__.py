"""The mapping from events of MLflow runs to requests of Databand's tracking API.

The functions are pure, without MLflow, dbnd or a network. Facts without a field in Databand's
schema follow the conventions of docs/databand.md. The requests have the form of dbnd 1.0.34.1's own
traffic.
"""

from ._bodies import PROTOCOL
from ._events import calls
from ._merge import TrackerCall, merged
from ._values import request_id

__all__ = ["PROTOCOL", "TrackerCall", "calls", "merged", "request_id"]
