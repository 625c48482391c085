"""The way to say no: an HTTP status and a sentence."""

from __future__ import annotations


class Refused(Exception):
    """A request that is not answered as asked."""

    def __init__(self, status: int, reason: str) -> None:
        """HTTP ``status``, and the ``reason`` as a sentence for the client."""
        super().__init__(reason)
        self.status, self.reason = status, reason
