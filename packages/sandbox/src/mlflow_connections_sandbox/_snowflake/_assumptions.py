"""Settings that differ between real accounts, or that no published source settles."""

from dataclasses import dataclass


@dataclass
class Assumptions:
    """Assumptions about differences between accounts.

    Attributes:
        copy_files_in_owners_rights: Whether an owner's-rights procedure may run COPY FILES. The
            documented list of its statements omits COPY FILES, and no refusal was published; run
            tests both ways.
        default_repository: The artifact repository of a procedure that names none: `pypi` as in
            accounts created since June 2026 (BCR-2325), or `anaconda` as in older ones.
        trial: Whether this is a trial account, which refuses external access integrations.
        finalizer_after_each_attempt: Whether a finalizer runs after each automatic retry of a
            graph, or once after the last one. The documentation allows both interpretations.
    """

    copy_files_in_owners_rights: bool = True
    default_repository: str = "pypi"
    trial: bool = False
    finalizer_after_each_attempt: bool = True
