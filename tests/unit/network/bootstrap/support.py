"""Keys, announcements and doors for the bootstrap's tests."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from consensus.ed25519 import Ed25519Verifier
from consensus.encoding import encode
from consensus.parameters import DEMO, resolved
from contracts.genesis import Registration, sign_registration
from network.bootstrap.formation import Formation
from network.bootstrap.records import Announcement
from network.bootstrap.store import FORMATION_FILE, RecordLog
from node.bootstrap_doors import GenesisMaker
from node.keystore import KeyPair

POLL_S = 0.001
PATIENCE_S = 10

VERIFIER = Ed25519Verifier()
NOW_MS = 1_800_000_000_000


async def eventually(holds: Callable[[], bool]) -> None:
    """Return once ``holds``; for what has no event of its own to wait for."""
    async with asyncio.timeout(PATIENCE_S):
        while not holds():  # noqa: ASYNC110 - see above
            await asyncio.sleep(POLL_S)


def key(number: int) -> KeyPair:
    return KeyPair(number.to_bytes(2, "big") * 16)


def meter(number: int) -> KeyPair:
    return key(10_000 + number)


def announcement(members: int = 4, chain_name: str = "village") -> Announcement:
    return Announcement(
        chain_name=chain_name,
        time_ms=NOW_MS,
        members=members,
        parameters=resolved(DEMO, members),
        admission="open",
        operators=(),
        operator_threshold=0,
        founding_balance=10**12,
        entry_balance=0,
    )


def registration(
    number: int, *, chain_name: str = "village", meter_number: int | None = None
) -> Registration:
    own_meter = meter(number if meter_number is None else meter_number)
    return sign_registration(chain_name, key(number), own_meter.public_key, 11_000)


def registered(number: int) -> bytes:
    return encode(registration(number))


class Opened:
    """A formation with its log on the disk."""

    def __init__(
        self, home: Path, announced: Announcement | None = None, founders: tuple[bytes, ...] = ()
    ) -> None:
        announced = announced or announcement()
        self.changes = 0
        self.log, records = RecordLog.open(home / FORMATION_FILE)
        self.formation = Formation(
            announcement=announced,
            door=GenesisMaker(announced, VERIFIER),
            verifier=VERIFIER,
            log=self.log,
            on_change=self._changed,
            founders=founders,
        )
        try:
            self.formation.restore(records)
        except BaseException:
            self.log.close()
            raise

    def _changed(self) -> None:
        self.changes += 1
