"""A request or a reply that waits in the proxy until a test releases it."""

from __future__ import annotations

import threading


class Held:
    """One request or reply that the proxy holds, or will hold as soon as it arrives."""

    def __init__(self, changed: threading.Condition) -> None:
        self._changed = changed
        self._caught = False
        self._decision: str | None = None
        self.body = b""

    def wait(self, timeout: float = 10.0) -> bool:
        """Return True as soon as one is caught. Its request's body is then in `body`. Raises TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._caught, timeout):
                raise TimeoutError(f"nothing to hold came in {timeout:g} s")
        return True

    def release(self) -> None:
        """Forward it. If it has not arrived yet, it will not be held at all."""
        self._decide("release")

    def drop(self) -> None:
        """Close the client's connection instead of forwarding it."""
        self._decide("drop")

    @property
    def pending(self) -> bool:
        """True until it is released or dropped."""
        return self._decision is None

    @property
    def dropped(self) -> bool:
        """True if it was dropped."""
        return self._decision == "drop"

    def catch(self, body: bytes) -> None:
        """Called by the proxy, under its lock, when a matching exchange reaches this point."""
        self.body = body
        self._caught = True
        self._changed.notify_all()

    def _decide(self, decision: str) -> None:
        with self._changed:
            self._decision = self._decision or decision
            self._changed.notify_all()
