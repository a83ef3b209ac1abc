"""Errors in the shape of Azure's REST services."""

from typing import TYPE_CHECKING

from starlette.responses import JSONResponse

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response


class AzureError(Exception):
    """Ends a request with an error response."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.code = code
        self.message = message


def answer_error(request: "Request", error: Exception) -> "Response":  # noqa: ARG001 - a handler
    """Return {"error": {"code": …, "message": …}}, as Azure's REST guidelines require."""
    if not isinstance(error, AzureError):
        raise error
    return JSONResponse(
        {"error": {"code": error.code, "message": error.message}},
        error.status,
        {"x-ms-error-code": error.code},
    )


def need_api_version(request: "Request", *known: str) -> None:
    """Refuse a request without one of the supported api-versions."""
    version = request.query_params.get("api-version")
    if version is None:
        raise AzureError(
            400,
            "MissingApiVersionParameter",
            "The api-version query parameter (?api-version=) is required for all requests.",
        )
    if version not in known:
        raise AzureError(
            400,
            "InvalidApiVersionParameter",
            f"The api-version '{version}' is invalid. The supported versions are "
            f"'{','.join(known)}'.",
        )
