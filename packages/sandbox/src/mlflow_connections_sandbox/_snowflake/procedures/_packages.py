"""The runtimes, repositories and packages of Python procedures.

Sources: Snowflake's Python runtime support policy; BCR-2325 (default repositories), BCR-2280 and
BCR-2379 (roles that may use them); texts from public issues. The PyPI repository resolves the
packages installed next to the stand-in, in their installed versions. The Anaconda channel is
assumed to contain only the names below, since its list was not available.
"""

from collections.abc import Sequence
from importlib import metadata

from packaging.requirements import InvalidRequirement, Requirement

from mlflow_connections_sandbox._snowflake._errors import (
    Name,
    SqlError,
    compilation,
    does_not_exist,
)

RUNTIMES = ("3.10", "3.11", "3.12", "3.13", "3.14")
"""The supported runtimes; 3.9 was decommissioned in April 2026."""
PYPI: Name = ("SNOWFLAKE", "SNOWPARK", "PYPI_SHARED_REPOSITORY")
ANACONDA: Name = ("SNOWFLAKE", "SNOWPARK", "ANACONDA_SHARED_REPOSITORY")
USER_ROLES = {
    PYPI: "SNOWFLAKE.PYPI_REPOSITORY_USER",
    ANACONDA: "SNOWFLAKE.ANACONDA_REPOSITORY_USER",
}
"""The database role that a repository's users need; PUBLIC holds both unless they are revoked."""
ANACONDA_PACKAGES = frozenset(
    (
        *("snowflake-snowpark-python", "snowflake-connector-python", "snowflake-ml-python"),
        *(
            "cloudpickle",
            "joblib",
            "jinja2",
            "matplotlib",
            "mlflow",
            "numpy",
            "packaging",
            "pandas",
        ),
        *("protobuf", "pyarrow", "pydantic", "python-dateutil", "pyyaml", "requests", "rich"),
        *(
            "scikit-learn",
            "scipy",
            "setuptools",
            "sqlalchemy",
            "tqdm",
            "typing-extensions",
            "urllib3",
        ),
        *("xgboost", "lightgbm", "statsmodels", "networkx", "pillow", "pytz", "cryptography"),
    )
)


def repository(named: Name | None, runtime: str, default: str) -> Name:
    """Return the repository from which a procedure's packages come.

    Args:
        named: The ARTIFACT_REPOSITORY clause, or None without one.
        runtime: The RUNTIME_VERSION.
        default: The account's own choice, `pypi` or `anaconda`.

    Raises:
        SqlError: The repository does not exist.
    """
    if named is None:
        return PYPI if default == "pypi" or runtime == "3.14" else ANACONDA
    if named not in USER_ROLES:
        raise does_not_exist("ARTIFACT REPOSITORY", named)
    return named


def check_packages(runtime: str, packages: Sequence[str], source: Name) -> None:
    """Check a procedure's runtime and packages.

    Args:
        runtime: The RUNTIME_VERSION.
        packages: The requirements of the PACKAGES clause.
        source: The repository that they come from.

    Raises:
        SqlError: The runtime does not exist, or the repository lacks a package.
    """
    if runtime not in RUNTIMES:
        text = f"Unsupported RUNTIME_VERSION '{runtime}' for PYTHON."
        raise compilation(text, 391541)
    for text in packages:
        if source == ANACONDA and _name(text) not in ANACONDA_PACKAGES:
            raise compilation(f"Package '{text}' is not supported.", 391521, "42601")
        if not _is_installed(text):
            raise SqlError(
                100357,
                "P0000",
                "Cannot create a Python function with the specified packages. Please check your "
                "packages specification and try again. 'Packages not found: "
                f"{text}' (the stand-in has the packages that are installed next to it)",
            )


def _name(text: str) -> str:
    try:
        return Requirement(text).name.lower().replace("_", "-")
    except InvalidRequirement:
        raise compilation(f"Package '{text}' is not supported.", 391521, "42601") from None


def _is_installed(text: str) -> bool:
    name = _name(text)
    try:
        return Requirement(text).specifier.contains(metadata.version(name), prereleases=True)
    except metadata.PackageNotFoundError:
        return False
