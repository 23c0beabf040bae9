"""What the runtime tells the replica of the pool: only what a block of the present time may hold (PROTOCOL 6.7, 9.2).

Found by the whole-system simulation, seed 13: any other transaction lets the delegates' timers run for a block that the
primary cannot make, and charges an honest one with a failed view.
"""

from types import SimpleNamespace
from typing import Any

from consensus.inputs import Instant, PoolChanged
from contracts.transaction import Transaction, Transfer, decode_transaction, encode_body, sign_body
from node.keystore import KeyPair
from node.mempool import Entry, Mempool, PoolLimits
from node.runtime import Runtime

KEY = KeyPair(b"\x01" * 32)


class Told(Runtime):
    """The part of a runtime that looks at the pool."""

    def __init__(self) -> None:
        self.pool = Mempool(PoolLimits(100, 10**6, 100), lambda _address: True)
        self.now_ms = 10_000
        self.told: list[int] = []
        self._waiting_told = 0
        parameters = SimpleNamespace(max_block_transactions=64)
        stand_ins: dict[str, Any] = {
            "clock": SimpleNamespace(now=lambda: Instant(self.now_ms, self.now_ms)),
            "ledger": SimpleNamespace(time_ms=9_000, genesis=SimpleNamespace(parameters=parameters)),
        }
        vars(self).update(stand_ins)

    def post(self, kind: Any, *fields: Any) -> None:
        assert kind is PoolChanged
        self.told.append(fields[0])

    def arrive(self, valid_from_ms: int, valid_until_ms: int) -> None:
        before = len(self.pool)
        entry = self.pool.begin(transaction(before, valid_from_ms, valid_until_ms), self.now_ms)
        assert isinstance(entry, Entry)
        assert self.pool.admit(entry)
        self._pool_admitted(before)


def transaction(nonce: int, valid_from_ms: int, valid_until_ms: int) -> Transaction:
    body = encode_body(bytes(32), KEY.address, valid_from_ms, valid_until_ms, nonce, Transfer(bytes(20), 1))
    return decode_transaction(sign_body(body, (KEY,)))


def test_a_window_that_is_not_open_or_over_does_not_wait() -> None:
    runtime = Told()
    runtime.arrive(13_000, 60_000)
    runtime.arrive(0, 9_500)
    runtime._look_at_windows()
    assert runtime.told == []


def test_a_window_is_told_when_it_opens_and_when_it_closes() -> None:
    runtime = Told()
    runtime.arrive(13_000, 14_000)
    runtime.now_ms = 13_000
    runtime._look_at_windows()
    assert runtime.told == [1]
    runtime.now_ms = 14_001
    runtime._look_at_windows()
    assert runtime.told == [1, 0]


def test_an_arrival_beside_what_no_block_can_hold_is_told() -> None:
    runtime = Told()
    runtime.arrive(0, 9_500)
    runtime.arrive(0, 60_000)
    assert runtime.told == [1]
