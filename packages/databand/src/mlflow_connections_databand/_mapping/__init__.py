"""The mapping: events of MLflow runs become requests of Databand's tracking API.

Pure functions, without MLflow, dbnd or a network. What Databand's schema has no field for follows
the conventions of docs/databand.md. The requests' form is that of dbnd 1.0.34.1's own traffic.
"""

from ._calls import Call, merged
from ._events import calls

__all__ = ["Call", "calls", "merged"]
