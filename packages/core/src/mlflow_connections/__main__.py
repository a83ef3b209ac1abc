"""`python -m mlflow_connections` is `mlflow-connections`."""

import sys

from ._cli import main

sys.exit(main())
