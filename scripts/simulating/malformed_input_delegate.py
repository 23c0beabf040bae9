"""A replica in the hands of a fuzzer that may hold a delegate's key: twisted messages, rightly signed (PROTOCOL 6)."""

import random
from collections.abc import Callable
from typing import Any, Final

import msgpack  # type: ignore[import-untyped]
import msgspec

from consensus.block import Block
from consensus.effects import CheckProposal, Effect, Send
from consensus.encoding import encode
from consensus.inputs import Input, Instant, ProposalChecked, Received
from consensus.messages import (
    Accepted,
    Commit,
    ConsensusMessage,
    NewView,
    Prepare,
    PreparedCertificate,
    Proposal,
    V,
    ViewChange,
    message_codec,
    sign_vote,
    view_change_bytes,
    vote_bytes,
)
from consensus.replica import Replica
from consensus.signing import Signer
from scripts.simulating.codec_conformance import twisted
from scripts.simulating.crash_points_recording import Recording, record

LIFE: Final = 200
"""Messages to one replica before it starts anew at another height: long enough to fill its tallies."""

_pack: Callable[[Any], bytes] = msgpack.Packer(use_bin_type=True).pack


class Delegates:
    """The recorded run's delegates; one of them is the replica, the others' keys are the fuzzer's."""

    def __init__(self, seed: int = 1) -> None:
        self._recording: Recording = record(seed, milliseconds=15_000)
        own = self._recording.signer.public_key
        self._others = tuple(s for s in self._recording.signers if s.public_key != own)
        self._taken = 0
        self._replica = self._fresh()

    def _fresh(self) -> Replica:
        recording = self._recording
        number = self._taken // LIFE % min(len(recording.contexts), len(recording.proposals))
        self._proposal = recording.proposals[number]
        context = next(c for c in recording.contexts if c.height == self._proposal.vote.height)
        self._at = Instant(context.parent_time_ms + 1_000, 1_000_000)
        replica = Replica(
            chain_id=recording.chain_id,
            parameters=recording.parameters,
            signer=recording.signer,
            verifier=recording.verifier,
            context=context,
            at=self._at,
        )
        replica.start(self._at)
        return replica

    # ---- taking

    def take(self, data: bytes) -> None:
        """One message from one of the other delegates; `MalformedInput` where it is none."""
        message = message_codec.decode(data)
        self._taken += 1
        if self._taken % LIFE == 0:
            self._replica = self._fresh()
        sender = self._others[self._taken % len(self._others)].public_key
        self._step(Received(self._at, sender, message))

    def _step(self, item: Input) -> None:
        for effect in self._replica.step(item):
            self._carry_out(effect)

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case CheckProposal(proposal):
                vote = proposal.vote
                block = Block(proposal.header, (), proposal.last_commit, proposal.discarded)
                found = block if not proposal.references else None
                reason = None if found else "nobody has its transactions"
                place = (vote.height, vote.view, vote.digest)
                self._step(ProposalChecked(self._at, *place, found, reason, (), None))
            case Send(message, _):
                encode(message)
            case _:
                pass

    # ---- making

    def unsigned(self, rng: random.Random) -> bytes:
        """Messages with a twist that no signature covers any more."""
        return _pack(twisted(_plain(self._any(rng)), rng))

    def signed(self, rng: random.Random) -> bytes:
        """Votes and proposals with a twist, signed anew."""
        message = self._vote(rng) if rng.randrange(3) else self._proposal
        return self._twist_and_sign(message, rng)

    def signed_views(self, rng: random.Random) -> bytes:
        """View-changes and new-views with a twist, signed anew; what is nested in them is signed too, or twisted."""
        made = self._view_change(rng) if rng.randrange(2) else self._new_view(rng)
        return self._twist_and_sign(made, rng)

    def _twist_and_sign(self, message: ConsensusMessage, rng: random.Random) -> bytes:
        plain = twisted(_plain(message), rng) if rng.randrange(4) else _plain(message)
        data = _pack(plain)
        try:
            found = message_codec.decode(data)
        except Exception:  # noqa: BLE001 - whoever takes it says what it is
            return data
        return encode(self._sign(found, self._signer(rng)))

    def _sign(self, message: ConsensusMessage, signer: Signer) -> ConsensusMessage:
        chain_id = self._recording.chain_id
        key = signer.public_key
        match message:
            case Prepare() | Commit():
                vote = msgspec.structs.replace(message, signer=key)
                return msgspec.structs.replace(vote, signature=signer.sign(vote_bytes(vote, chain_id)))
            case Proposal():
                digest = message.header.digest()
                core = msgspec.structs.replace(message.vote, signer=key, digest=digest)
                core = msgspec.structs.replace(core, signature=signer.sign(vote_bytes(core, chain_id)))
                return msgspec.structs.replace(message, vote=core)
            case _:
                view = msgspec.structs.replace(message, signer=key)
                signature = signer.sign(view_change_bytes(view, chain_id))
                return msgspec.structs.replace(view, signature=signature)

    def _signer(self, rng: random.Random) -> Signer:
        return self._others[rng.randrange(len(self._others))]

    def _any(self, rng: random.Random) -> ConsensusMessage:
        match rng.randrange(4):
            case 0:
                return self._vote(rng)
            case 1:
                return self._view_change(rng)
            case 2:
                return self._new_view(rng)
            case _:
                return self._proposal

    def _vote(self, rng: random.Random) -> ConsensusMessage:
        signer, view = self._signer(rng), rng.randrange(3)
        if rng.randrange(2):
            return self._signed_vote(Prepare, signer, view)
        return self._signed_vote(Commit, signer, view)

    def _signed_vote(self, kind: type[V], signer: Signer, view: int) -> V:
        vote = self._proposal.vote
        place = (vote.epoch, vote.height, view, vote.digest)
        return sign_vote(kind, self._recording.chain_id, *place, signer)

    def _view_change(self, rng: random.Random, view: int | None = None) -> ViewChange:
        vote = self._proposal.vote
        target = 1 + rng.randrange(3) if view is None else view
        prepares = tuple(self._signed_vote(Prepare, signer, 0) for signer in self._others[:2])
        prepared = PreparedCertificate(vote, prepares) if rng.randrange(2) else None
        accepted = (Accepted(0, vote.digest),) if rng.randrange(2) else ()
        signer = self._signer(rng)
        plain = ViewChange(vote.epoch, vote.height, target, prepared, accepted, signer.public_key, bytes(64))
        signed = self._sign(plain, signer)
        return signed if isinstance(signed, ViewChange) else plain

    def _new_view(self, rng: random.Random) -> NewView:
        vote, view = self._proposal.vote, 1 + rng.randrange(3)
        changes = tuple(self._view_change(rng, view) for _ in range(1 + rng.randrange(4)))
        signer = self._signer(rng)
        return NewView(vote.epoch, vote.height, view, changes, signer.public_key, bytes(64))


def _plain(message: ConsensusMessage) -> Any:
    return msgpack.unpackb(encode(message), use_list=False)
