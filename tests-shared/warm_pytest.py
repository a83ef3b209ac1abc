"""pytest in a process that has imported what MLflow imports: `python warm_pytest.py [arguments of pytest]`."""

import sys

import warm_python

if __name__ == "__main__":
    sys.exit(warm_python.run_pytest())
