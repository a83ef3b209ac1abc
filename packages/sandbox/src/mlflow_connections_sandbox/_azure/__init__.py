"""Azure as an AzureML client sees it: Entra ID, ARM, a workspace and its storage, behind a TLS proxy."""

from ._stand_in import Azure

__all__ = ["Azure"]
