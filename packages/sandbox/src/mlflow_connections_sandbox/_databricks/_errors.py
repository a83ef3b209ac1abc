"""Errors in the form of Databricks' REST API."""

from starlette.responses import JSONResponse


class ApiError(Exception):
    """Ends a request with an error response.

    Attributes:
        status: The HTTP status.
        code: A name such as `RESOURCE_DOES_NOT_EXIST`; for refused access the status as a number.
        message: The text for people.
    """

    def __init__(self, status: int, code: str | int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message

    def answer(self) -> JSONResponse:
        """Return the response. The header is part of the form: see databricks/databricks-sdk-go#873."""
        return JSONResponse(
            {"error_code": self.code, "message": self.message},
            self.status,
            {"X-Databricks-Reason-Phrase": self.message},
        )


def endpoint_not_found(method: str, path: str) -> ApiError:
    """Return the error for an API that the workspace does not have."""
    return ApiError(404, "ENDPOINT_NOT_FOUND", f"No API found for '{method} {path}'")


def invalid(message: str) -> ApiError:
    """Return the error for an invalid value."""
    return ApiError(400, "INVALID_PARAMETER_VALUE", message)


def missing(message: str) -> ApiError:
    """Return the error for something that does not exist."""
    return ApiError(404, "RESOURCE_DOES_NOT_EXIST", message)
