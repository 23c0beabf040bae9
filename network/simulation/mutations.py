"""Small changes to any field of any message, found by walking the structs themselves (ByzzFuzz).

Nothing here knows what a field means. The liar signs what it changed with its own key, wherever it is named as the
signer, and may bind a changed block anew; it cannot sign for others.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import msgspec

from consensus.block import (
    CertifiedBlock,
    certified_block_codec,
    discarded_root,
    last_commit_hash,
    transactions_root,
)
from consensus.encoding import encode
from consensus.errors import MalformedInput
from consensus.messages import (
    Commit,
    NewView,
    Prepare,
    PrePrepareVote,
    Proposal,
    ViewChange,
    message_codec,
    view_change_bytes,
    vote_bytes,
)
from consensus.signing import Signer
from consensus.types import Digest

Scope: TypeAlias = Literal["small", "any"]
"""Small: one step away from the truth. Any: whatever the type allows, and some that it does not."""
Path: TypeAlias = tuple[str | int, ...]
Message: TypeAlias = Proposal | Prepare | Commit | ViewChange | NewView | CertifiedBlock

EXTREMES: Final = (0, 1, 2**31, 2**62, 2**62 + 1, 2**63 - 1)
"""Integers at which something changes: the signs of narrower types, MAX_VIEW, the largest that the encoding takes."""


@dataclass(frozen=True)
class Place:
    """Somewhere in a message."""

    path: Path
    owner: str
    """Name of the struct that holds it, and of the field."""
    value: Any


@dataclass(frozen=True)
class Mutation:
    """What was done to a message."""

    message: Message
    path: Path
    operation: str


def places(value: Any, path: Path = (), owner: str = "") -> Iterator[Place]:
    """Every field, nested ones and list entries included."""
    if path:
        yield Place(path, owner, value)
    if isinstance(value, msgspec.Struct):
        kind = type(value).__name__
        for name in value.__struct_fields__:
            yield from places(getattr(value, name), (*path, name), f"{kind}.{name}")
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from places(item, (*path, index), f"{owner}[]")


def replaced(value: Any, path: Path, new: Any) -> Any:
    """``value`` with ``new`` at ``path``."""
    if not path:
        return new
    step, rest = path[0], path[1:]
    if isinstance(step, int):
        return (*value[:step], replaced(value[step], rest, new), *value[step + 1 :])
    return msgspec.structs.replace(value, **{step: replaced(getattr(value, step), rest, new)})


class Mutator:
    """Changes one place of a message of one liar."""

    def __init__(self, rng: random.Random, scope: Scope, signer: Signer, chain_id: Digest) -> None:
        self._rng = rng
        self._scope = scope
        self._signer = signer
        self._chain_id = chain_id

    def mutate(self, message: Message, seen: Sequence[Message]) -> Mutation:
        """A changed message; ``seen`` are those whose values may be put in."""
        rng = self._rng
        spots = list(places(message))
        kinds = sorted({spot.owner for spot in spots})
        # First the kind of field, then which of them: else nearly every change would hit a signature in a long list.
        kind = rng.choice(kinds)
        spot = rng.choice([item for item in spots if item.owner == kind])
        operation, value = self._changed(spot, seen)
        changed = replaced(message, spot.path, value)
        if isinstance(changed, Proposal) and spot.path[0] != "vote" and rng.random() < 0.7:
            changed = _rebound(changed, str(spot.path[0]))
        if spot.path[-1] != "signature" or rng.random() < 0.2:
            changed = resigned(changed, self._signer, self._chain_id)
        return Mutation(changed, spot.path, operation)

    def _changed(self, spot: Place, seen: Sequence[Message]) -> tuple[str, Any]:
        options = self._small(spot.value)
        if self._scope == "any":
            options += self._wild(spot.value)
        others = [
            item.value
            for message in seen
            for item in places(message)
            if item.owner == spot.owner and item.value != spot.value
        ]
        if others:
            options.append(("another seen", self._rng.choice(others)))
        return self._rng.choice(options) if options else ("none", spot.value)

    def _small(self, value: Any) -> list[tuple[str, Any]]:
        rng = self._rng
        match value:
            case bool():
                return [("negated", not value)]
            case int():
                return [("+1", value + 1), ("-1", value - 1)]
            case bytes() if value:
                place = rng.randrange(len(value))
                flipped = value[:place] + bytes((value[place] ^ rng.randint(1, 255),)) + value[place + 1 :]
                return [("one byte", flipped)]
            case tuple() if value:
                place = rng.randrange(len(value))
                dropped = value[:place] + value[place + 1 :]
                return [("one dropped", dropped), ("one twice", (*value[: place + 1], *value[place:]))]
            case _:
                return []

    def _wild(self, value: Any) -> list[tuple[str, Any]]:
        rng = self._rng
        match value:
            case bool():
                return []
            case int():
                return [("extreme", rng.choice(EXTREMES)), ("random", rng.randrange(2**63))]
            case bytes():
                longer = max(0, len(value) + rng.choice((-1, 1)))
                return [("random", rng.randbytes(len(value))), ("another length", rng.randbytes(longer))]
            case tuple():
                return [("emptied", ()), ("reversed", value[::-1]), ("doubled", value * 2)]
            case msgspec.Struct():
                return [("none", None)]
            case _:
                return []


def _rebound(proposal: Proposal, part: str) -> Proposal:
    """The header names the changed part, and the vote the header."""
    header: Any = proposal.header
    if header is None:
        return proposal
    match part:
        case "references":
            header = msgspec.structs.replace(header, transactions_root=transactions_root(proposal.references))
        case "last_commit":
            header = msgspec.structs.replace(header, last_commit_hash=last_commit_hash(proposal.last_commit))
        case "discarded":
            header = msgspec.structs.replace(header, discarded_root=discarded_root(proposal.discarded))
        case _:
            pass
    vote = msgspec.structs.replace(proposal.vote, digest=header.digest())
    return msgspec.structs.replace(proposal, header=header, vote=vote)


def resigned(value: Any, signer: Signer, chain_id: Digest) -> Any:
    """``value`` with every part that names ``signer`` signed anew, inner parts first."""
    if isinstance(value, tuple):
        return tuple(resigned(item, signer, chain_id) for item in value)
    if not isinstance(value, msgspec.Struct):
        return value
    fields = {
        name: resigned(getattr(value, name), signer, chain_id)
        for name in value.__struct_fields__
        if isinstance(getattr(value, name), msgspec.Struct | tuple)
    }
    if fields:
        value = msgspec.structs.replace(value, **fields)
    signable = isinstance(value, PrePrepareVote | Prepare | Commit | ViewChange | NewView)
    if not signable or value.signer != signer.public_key:
        return value
    try:
        signature = signer.sign(signed_bytes(value, chain_id))
    except (OverflowError, TypeError):
        return value
    return msgspec.structs.replace(value, signature=signature)


def signed_bytes(value: PrePrepareVote | Prepare | Commit | ViewChange | NewView, chain_id: Digest) -> bytes:
    """What a signature over ``value`` covers."""
    if isinstance(value, ViewChange | NewView):
        return view_change_bytes(value, chain_id)
    return vote_bytes(value, chain_id)


def delivered(message: Message) -> Message | None:
    """``message`` as a node's codec hands it on; None if the codec refuses it."""
    try:
        data = encode(message)
        if isinstance(message, CertifiedBlock):
            return certified_block_codec.decode(data)
        return message_codec.decode(data)
    except (MalformedInput, OverflowError):
        return None
