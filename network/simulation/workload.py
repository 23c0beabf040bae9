"""Transactions of a simulation: a real envelope around a body that only says when it holds and whether it is sound."""

import random
from typing import Final

from consensus.encoding import Codec, encode
from consensus.hashing import tagged_hash
from consensus.types import Wire
from network.simulation.doors import Opened

MAX_TRANSACTION_BYTES: Final = 65_536


class SimulatedBody(Wire, frozen=True):
    """What `consensus.removal.transaction_id` hashes."""

    nonce: int
    valid_from_ms: int
    valid_until_ms: int
    sound: bool
    """False stands for a bad signature or a malformed payload."""


class SimulatedTransaction(Wire, frozen=True):
    """``[body, signatures]`` as PROTOCOL 9.2 has it; the second part is padding here."""

    body: SimulatedBody
    padding: bytes


_codec: Final = Codec[SimulatedTransaction](SimulatedTransaction, MAX_TRANSACTION_BYTES)


def make_transaction(body: SimulatedBody, padding: bytes) -> bytes:
    """The full bytes."""
    return encode(SimulatedTransaction(body, padding))


def open_transaction(data: bytes) -> Opened:
    """The id and window in ``data``; `MalformedInput` if it is none of ours."""
    transaction = _codec.decode(data)
    body = transaction.body
    identity = tagged_hash("transaction.body", encode(body))
    return Opened(identity, body.valid_from_ms, body.valid_until_ms, body.sound)


class Workload:
    """Draws transactions, most of them long-lived, some with a window so short that they expire unseen."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._nonce = 0

    def next(self, wall_ms: int, window_ms: int) -> bytes:
        """A sound transaction that holds now, give or take a clock that is wrong."""
        self._nonce += 1
        if self._rng.randrange(10) == 0:
            window_ms = self._rng.randint(100, 2_000)
        begin = wall_ms - min(window_ms // 2, 5_000)
        return make_transaction(
            SimulatedBody(self._nonce, begin, begin + window_ms, True),
            self._rng.randbytes(self._rng.randint(0, 60)),
        )

    def probe(self, wall_ms: int, window_ms: int) -> bytes:
        """A transaction that holds long enough to be waited for."""
        self._nonce += 1
        return make_transaction(
            SimulatedBody(self._nonce, wall_ms - 5_000, wall_ms - 5_000 + window_ms, True), b"probe"
        )
