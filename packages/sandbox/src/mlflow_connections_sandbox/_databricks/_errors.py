"""Errors in the shape that Databricks' REST API gives them."""

from starlette.responses import JSONResponse


class ApiError(Exception):
    """Ends a request with an error answer.

    Attributes:
        status: The HTTP status.
        code: A name such as `RESOURCE_DOES_NOT_EXIST`; for refused access the status as a number.
        message: What a person reads.
    """

    def __init__(self, status: int, code: str | int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message

    def answer(self) -> JSONResponse:
        """Make the answer. The header is part of the shape: see databricks/databricks-sdk-go#873."""
        return JSONResponse(
            {"error_code": self.code, "message": self.message},
            self.status,
            {"X-Databricks-Reason-Phrase": self.message},
        )


def endpoint_not_found(method: str, path: str) -> ApiError:
    """An API that the workspace does not have."""
    return ApiError(404, "ENDPOINT_NOT_FOUND", f"No API found for '{method} {path}'")


def invalid(message: str) -> ApiError:
    """A value that cannot be."""
    return ApiError(400, "INVALID_PARAMETER_VALUE", message)


def missing(message: str) -> ApiError:
    """A thing that does not exist."""
    return ApiError(404, "RESOURCE_DOES_NOT_EXIST", message)
