"""Members that disturb: by what they leave out, say twice, say late, or say without being able to prove it."""

import asyncio
import random
from collections.abc import Callable, Container, Iterable
from typing import Final

import msgspec

from consensus.hashing import tagged_hash
from consensus.messages import Commit, NewView, Prepare, PrePrepareVote, Proposal, ViewChange, sign_vote
from consensus.signing import Signer
from consensus.types import Digest, PublicKey
from contracts.transaction import Transaction
from network.wire import ApplicationMessage
from node.runtime import Runtime

KINDS: Final[dict[str, type]] = {
    "proposal": Proposal,
    "prepare": Prepare,
    "commit": Commit,
    "view_change": ViewChange,
    "new_view": NewView,
}
FUTURE_VOTES: Final = 20
"""Beside each vote of its own."""
SLOW_SHARE: Final = 0.95
"""Of the view timer: a proposal that comes just before it runs out."""

Broadcast = Callable[[Iterable[PublicKey], ApplicationMessage], int]


def _instead(runtime: Runtime, make: Callable[[Broadcast], Broadcast]) -> None:
    runtime.transport.broadcast = make(runtime.transport.broadcast)  # type: ignore[method-assign, assignment]


def make_mute(runtime: Runtime, signer: Signer, argument: str) -> None:
    """Never send one kind of message: loss by type, which a proxy on encrypted links cannot do."""
    del signer
    kind = KINDS[argument]

    def wrap(honest: Broadcast) -> Broadcast:
        return lambda keys, message: 0 if isinstance(message, kind) else honest(keys, message)

    _instead(runtime, wrap)


def make_echo(runtime: Runtime, signer: Signer, argument: str) -> None:
    """Say everything twice, and a third time up to two seconds later: duplicates, disorder and replays."""
    del signer, argument
    draw = random.Random(runtime.own_key)

    def wrap(honest: Broadcast) -> Broadcast:
        def broadcast(public_keys: Iterable[PublicKey], message: ApplicationMessage) -> int:
            everyone = tuple(public_keys)
            sent = honest(everyone, message)
            if isinstance(message, tuple(KINDS.values())):
                honest(everyone, message)
                asyncio.get_running_loop().call_later(draw.uniform(0.05, 2.0), honest, everyone, message)
            return sent

        return broadcast

    _instead(runtime, wrap)


def make_slow(runtime: Runtime, signer: Signer, argument: str) -> None:
    """Propose just before the view timer runs out (PROTOCOL 6.7, "latency too high")."""
    del signer, argument
    wait_s = SLOW_SHARE * runtime.ledger.genesis.parameters.view_timeout_ms / 1_000

    def wrap(honest: Broadcast) -> Broadcast:
        def broadcast(public_keys: Iterable[PublicKey], message: ApplicationMessage) -> int:
            everyone = tuple(public_keys)
            if isinstance(message, Proposal):
                asyncio.get_running_loop().call_later(wait_s, honest, everyone, message)
                return len(everyone)
            return honest(everyone, message)

        return broadcast

    _instead(runtime, wrap)


def make_censor(runtime: Runtime, signer: Signer, argument: str) -> None:
    """Propose no transaction whose sender's address is odd (PROTOCOL 6.7: the complaint)."""
    del signer, argument
    honest = runtime.pool.batch

    def batch(time_ms: int, max_count: int, max_bytes: int, excluded: Container[Digest]) -> list[Transaction]:
        return [one for one in honest(time_ms, max_count, max_bytes, excluded) if one.sender[-1] % 2 == 0]

    runtime.pool.batch = batch  # type: ignore[method-assign]


def make_forging(runtime: Runtime, signer: Signer, argument: str) -> None:
    """Sign everything wrongly."""
    del signer, argument

    def wrap(honest: Broadcast) -> Broadcast:
        return lambda keys, message: honest(keys, _spoiled(message))

    _instead(runtime, wrap)


def _spoiled(message: ApplicationMessage) -> ApplicationMessage:
    if isinstance(message, Proposal):
        return msgspec.structs.replace(
            message, vote=msgspec.structs.replace(message.vote, signature=bytes(64))
        )
    if isinstance(message, Prepare | Commit | ViewChange | NewView):
        return msgspec.structs.replace(message, signature=bytes(64))
    return message


def make_future(runtime: Runtime, signer: Signer, argument: str) -> None:
    """Beside every vote send correctly signed ones for heights and views that are far away."""
    del argument
    chain_id, draw = runtime.ledger.chain_id, random.Random(runtime.own_key)

    def wrap(honest: Broadcast) -> Broadcast:
        def broadcast(public_keys: Iterable[PublicKey], message: ApplicationMessage) -> int:
            everyone = tuple(public_keys)
            if isinstance(message, Prepare | Commit):
                for _ in range(FUTURE_VOTES):
                    height, view = message.height + draw.randint(1, 10**6), draw.randint(0, 2**31)
                    digest = tagged_hash("message", draw.randbytes(32))
                    place = (message.epoch, height, view, digest)
                    if isinstance(message, Prepare):
                        honest(everyone, sign_vote(Prepare, chain_id, *place, signer))
                    else:
                        honest(everyone, sign_vote(Commit, chain_id, *place, signer))
            return honest(everyone, message)

        return broadcast

    _instead(runtime, wrap)


def make_badblock(runtime: Runtime, signer: Signer, argument: str) -> None:
    """As primary, propose blocks whose header names another state root (PROTOCOL 6.8)."""
    del argument
    chain_id = runtime.ledger.chain_id

    def wrap(honest: Broadcast) -> Broadcast:
        def broadcast(public_keys: Iterable[PublicKey], message: ApplicationMessage) -> int:
            return honest(public_keys, _wrong(message, chain_id, signer))

        return broadcast

    _instead(runtime, wrap)


def _wrong(message: ApplicationMessage, chain_id: bytes, signer: Signer) -> ApplicationMessage:
    if not isinstance(message, Proposal):
        return message
    vote = message.vote
    header = msgspec.structs.replace(message.header, state_root=tagged_hash("message", b"wrong"))
    place = (vote.epoch, vote.height, vote.view, header.digest())
    other = sign_vote(PrePrepareVote, chain_id, *place, signer)
    return msgspec.structs.replace(message, vote=other, header=header)
