"""The exceptions of the pure floors, one tree, named by who is at fault."""

from typing import NoReturn


class ProtocolError(Exception):
    """Base of everything this project raises on purpose."""


class MalformedInput(ProtocolError):
    """Bytes or values from outside break a format rule; the text says which rule and where."""


class InvalidMessage(ProtocolError):
    """A well-formed message breaks a rule of the protocol; it is dropped and changes nothing."""


class InvalidGenesis(ProtocolError):
    """Genesis parameters or members contradict PROTOCOL 3.1, 4.4 or 11."""


class InvariantViolation(ProtocolError):
    """Our own bug: a property of PROTOCOL 12 does not hold. The node stops before it signs again."""


def invariant(condition: bool, message: str) -> None:
    """Stop the node when ``condition`` is false. A function, since ``python -O`` strips ``assert``."""
    if not condition:
        fail(message)


def fail(message: str) -> NoReturn:
    """Raise `InvariantViolation` with what was found."""
    raise InvariantViolation(message)
