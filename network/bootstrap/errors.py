"""What the bootstrap service and its client raise."""

from consensus.errors import ProtocolError


class BootstrapError(ProtocolError):
    """Base of this package's errors."""


class Refused(BootstrapError):
    """A request is refused for good reason; the service answers with a problem document of these fields."""

    def __init__(self, status: int, code: str, detail: str, retry_after_s: int | None = None) -> None:
        super().__init__(detail)
        self.status = status
        """HTTP status."""
        self.code = code
        """Stable name of the reason."""
        self.detail = detail
        self.retry_after_s = retry_after_s


class Unavailable(BootstrapError):
    """A bootstrap or a member's API cannot be reached, or answers nonsense; another one may do better."""


class StoreUnusable(BootstrapError):
    """The service's own file cannot be used; the text says what to do."""
