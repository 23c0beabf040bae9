"""Catching up without IO: several peers at once, order, bounds, and peers that lie, lag or lower their height."""

import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.encoding import encode
from network.serving import collect_blocks
from network.sync import SyncSession
from network.sync_effects import (
    CaughtUpChanged,
    DeliverBlock,
    LeaveOut,
    RequestBlocks,
    SyncEffect,
    SyncLimits,
)
from network.wire import BLOCKS_RESPONSE_TARGET_BYTES, BlocksRequest
from tests.unit.network.harness import chain_of, key, with_height

A, B, C, D = (key(n) for n in range(1, 5))
CHAIN = chain_of(400)
ENCODED = [encode(block) for block in CHAIN]
OTHER = [encode(block) for block in chain_of(400, salt=1)]


def load(height: int) -> bytes | None:
    return ENCODED[height - 1] if 1 <= height <= len(ENCODED) else None


def requests(effects: list[SyncEffect]) -> list[RequestBlocks]:
    return [effect for effect in effects if isinstance(effect, RequestBlocks)]


def delivered(effects: list[SyncEffect]) -> list[int]:
    return [effect.height for effect in effects if isinstance(effect, DeliverBlock)]


def left_out(effects: list[SyncEffect]) -> list[tuple[bytes, bool]]:
    return [(effect.peer, effect.punish) for effect in effects if isinstance(effect, LeaveOut)]


def answer(
    session: SyncSession, request: RequestBlocks, now_ms: int, blocks: list[bytes] | None = None
) -> list[SyncEffect]:
    if blocks is None:
        blocks = list(collect_blocks(BlocksRequest(request.from_height, request.count), load))
    return session.response(request.peer, request.from_height, blocks, now_ms)


def session_behind(
    *peers: bytes, height: int = 400, limits: SyncLimits | None = None
) -> tuple[SyncSession, list[RequestBlocks]]:
    session = SyncSession(0, limits)
    asked: list[RequestBlocks] = []
    for peer in peers:
        asked += requests(session.status(peer, height, 1, 0))
    return session, asked


# ------------------------------------------------------------ asking and delivering


def test_ranges_are_asked_from_several_peers_in_parallel_without_overlap() -> None:
    _, asked = session_behind(A, B, C)
    assert {request.peer for request in asked} == {A, B, C}
    heights = [h for r in asked for h in range(r.from_height, r.from_height + r.count)]
    assert len(heights) == len(set(heights))
    assert min(heights) == 1


def test_blocks_are_delivered_in_order_whatever_the_order_of_answers() -> None:
    session, asked = session_behind(A, B)
    first, second = asked[0], asked[1]
    assert (first.from_height, second.from_height) == (1, 65)
    assert delivered(answer(session, second, 10)) == []
    assert delivered(answer(session, first, 20)) == list(range(1, 65))


def test_no_more_is_handed_out_than_the_ledger_keeps_up_with() -> None:
    session, asked = session_behind(A, B, limits=SyncLimits(unapplied_blocks=10))
    heights = delivered(answer(session, asked[0], 10))
    assert heights == list(range(1, 11))
    assert delivered(session.applied(1, 20)) == [11]


def test_what_consensus_decides_by_itself_is_not_asked_for() -> None:
    session = SyncSession(0)
    session.applied(400, 0)
    assert session.status(A, 400, 1, 0) == []


def test_the_window_bounds_how_far_ahead_is_asked() -> None:
    session = SyncSession(0, SyncLimits(window_blocks=100, requests=8, requests_per_peer=8))
    asked = requests(session.status(A, 10**15, 1, 0))
    assert max(r.from_height + r.count - 1 for r in asked) == 100


def test_a_full_buffer_leaves_only_the_next_missing_block_to_ask_for() -> None:
    limits = SyncLimits(buffer_bytes=2_000, requests_per_peer=1)
    session, asked = session_behind(A, B, limits=limits)
    second = asked[1]
    effects = answer(session, second, 10)
    assert session.held_bytes > limits.buffer_bytes
    assert requests(effects) == []
    assert 1 in delivered(answer(session, asked[0], 20))


def test_a_peer_that_pruned_is_not_asked_for_what_it_no_longer_has() -> None:
    session = SyncSession(0)
    assert requests(session.status(A, 400, 100, 0)) == []
    asked = requests(session.status(B, 400, 1, 0))
    assert all(r.peer == B for r in asked if r.from_height < 100)


def test_an_answer_cut_by_its_size_is_complete_and_the_rest_is_asked_again() -> None:
    big = chain_of(10, padding_bytes=BLOCKS_RESPONSE_TARGET_BYTES // 2)
    session = SyncSession(0)
    (request,) = requests(session.status(A, 10, 1, 0))
    effects = answer(session, request, 10, [encode(block) for block in big[:3]])
    assert delivered(effects) == [1, 2, 3]
    assert left_out(effects) == []
    assert [(r.from_height, r.count) for r in requests(effects)] == [(4, 7)]


def test_blocks_that_the_ledger_never_answers_are_handed_out_again() -> None:
    session, asked = session_behind(A)
    assert delivered(answer(session, asked[0], 10))[0] == 1
    session.tick(20_000)
    assert delivered(session.applied(1, 20_000)) == []
    assert delivered(session.tick(40_000)) == []
    assert delivered(session.tick(50_001))[:2] == [2, 3]


def test_a_ledger_that_does_not_keep_up_is_behind_even_with_all_blocks_here() -> None:
    session = with_delegates(0)
    for peer in (A, B, C):
        session.status(peer, 0, 1, 0)
    assert session.caught_up
    for height in range(10):
        session.offer(A, height + 1, ENCODED[height], 10)
    for peer in (B, C):
        session.status(peer, 10, 1, 20)
    assert session.caught_up
    assert CaughtUpChanged(False) in session.tick(1_100)


# ------------------------------------------------------------ peers that fail


def test_an_unanswered_request_goes_to_another_peer() -> None:
    session, asked = session_behind(A, B, limits=SyncLimits(strikes=3))
    lost = next(r for r in asked if r.peer == A)
    for other in (r for r in asked if r.peer == B):
        answer(session, other, 10)
    effects: list[SyncEffect] = []
    for now_ms in range(0, 5_500, 250):
        effects += session.tick(now_ms)
    again = [r for r in requests(effects) if r.from_height <= lost.from_height < r.from_height + r.count]
    assert B in {r.peer for r in again}


def test_a_peer_that_never_answers_is_left_out_for_a_while_and_may_return() -> None:
    session, _ = session_behind(A, B)
    effects: list[SyncEffect] = []
    for now_ms in range(0, 6_000, 250):
        effects += session.tick(now_ms)
    assert (A, False) in left_out(effects) or (B, False) in left_out(effects)
    gone = left_out(effects)[0][0]
    assert session.status(gone, 400, 1, 7_000) == []
    assert requests(session.status(gone, 400, 1, 60_000))


def test_the_last_peer_is_not_left_out_for_being_slow() -> None:
    session, _ = session_behind(A)
    effects: list[SyncEffect] = []
    for now_ms in range(0, 30_000, 250):
        effects += session.tick(now_ms)
    assert left_out(effects) == []
    assert len(requests(effects)) >= 5


def test_after_a_pause_of_this_process_nobody_else_is_late() -> None:
    session, _ = session_behind(A, B)
    session.tick(250)
    assert left_out(session.tick(20_000)) == []


def test_the_next_missing_block_is_asked_from_a_second_peer_when_the_first_is_slow() -> None:
    session, asked = session_behind(A, B)
    first = asked[0]
    for other in [r for r in asked if r.peer != first.peer]:
        answer(session, other, 10)
    effects: list[SyncEffect] = []
    for now_ms in range(250, 1_600, 250):
        effects += session.tick(now_ms)
    hedges = [r for r in requests(effects) if r.from_height == first.from_height]
    assert [r.peer for r in hedges] == [B if first.peer == A else A]
    assert delivered(answer(session, hedges[0], 1_600))[0] == 1
    assert answer(session, first, 1_700) == []


def test_a_slow_drip_that_is_outrun_again_and_again_is_left_out() -> None:
    """It answers each request just in time; two outrun requests in a row end it."""
    session = SyncSession(0, SyncLimits(blocks_per_request=16, requests_per_peer=1))
    pending = requests(session.status(A, 400, 1, 0) + session.status(B, 400, 1, 0))
    out: list[tuple[bytes, bool]] = []
    for now_ms in range(10, 20_000, 250):
        quick = [r for r in pending if r.peer == B]
        pending = [r for r in pending if r.peer == A and now_ms < 15_000]
        effects = session.tick(now_ms)
        for request in quick:
            effects += answer(session, request, now_ms)
        for height in delivered(effects):
            effects += session.applied(height, now_ms)
        pending += requests(effects)
        out += left_out(effects)
        if out:
            break
    assert out == [(A, False)]


def test_a_peer_that_lowers_its_height_is_left_out() -> None:
    session, _ = session_behind(A, B)
    effects = session.status(A, 399, 1, 10)
    assert left_out(effects) == [(A, False)]
    assert all(r.peer == B for r in requests(effects))


def test_a_peer_that_came_back_may_be_lower() -> None:
    session, _ = session_behind(A, B)
    session.gone(A, 10)
    assert left_out(session.status(A, 5, 1, 20)) == []


def test_a_peer_that_does_not_hold_what_it_announced_is_left_out() -> None:
    session, asked = session_behind(A, B)
    effects = answer(session, asked[0], 10, [])
    assert left_out(effects) == [(asked[0].peer, False)]
    assert asked[0].from_height in {r.from_height for r in requests(effects)}


def test_a_lazy_answer_is_left_out_but_what_it_gave_counts() -> None:
    session, asked = session_behind(A, B)
    effects = answer(session, asked[0], 10, ENCODED[:3])
    assert left_out(effects) == [(asked[0].peer, False)]
    assert delivered(effects) == [1, 2, 3]


@pytest.mark.parametrize(
    "blocks",
    [
        [b"\xc1"],
        [ENCODED[0][:-1]],
        [ENCODED[1]],
        [ENCODED[0], OTHER[1]],
        [encode(msgspec.structs.replace(CHAIN[0], certificate=CHAIN[1].certificate))],
        ENCODED[:65],
    ],
    ids=["noise", "cut", "another height", "another parent", "another certificate", "too many"],
)
def test_what_no_honest_peer_sends_is_punished(blocks: list[bytes]) -> None:
    session, asked = session_behind(A, B)
    effects = answer(session, asked[0], 10, blocks)
    assert left_out(effects) == [(asked[0].peer, True)]
    assert delivered(effects) == []
    assert session.held_bytes == 0


def test_an_unasked_answer_is_ignored() -> None:
    session, _ = session_behind(A)
    assert session.response(B, 1, ENCODED[:5], 10) == []
    assert session.response(A, 7, ENCODED[6:9], 10) == []


def test_a_block_with_a_forged_certificate_costs_its_sender_and_is_fetched_elsewhere() -> None:
    """The ledger finds out: the session drops all of the liar's blocks and delivers the height anew."""
    session, asked = session_behind(A, B, limits=SyncLimits(requests_per_peer=1))
    liar, honest = asked[0], asked[1]
    assert liar.peer != honest.peer
    answer(session, honest, 5)
    effects = answer(session, liar, 10, OTHER[:64])
    assert delivered(effects) == list(range(1, 65))  # and 65.. only when some of these are applied
    effects = session.invalid(1, "the certificate is not the delegates'", 20)
    assert left_out(effects) == [(liar.peer, True)]
    again = next(r for r in requests(effects) if r.from_height == 1)
    assert again.peer == honest.peer
    effects = answer(session, again, 30)
    assert delivered(effects)[:64] == list(range(1, 65))


def test_blocks_handed_out_after_an_invalid_one_come_again() -> None:
    session, asked = session_behind(A, B, limits=SyncLimits(blocks_per_request=4, requests_per_peer=1))
    answer(session, asked[1], 5)
    effects = answer(session, asked[0], 10)
    assert delivered(effects) == list(range(1, 9))
    session.applied(1, 20)
    session.applied(2, 20)
    effects = session.invalid(3, "forged", 30)
    request = next(r for r in requests(effects) if r.from_height == 3)
    assert delivered(answer(session, request, 40, ENCODED[2 : 2 + request.count]))[:6] == [3, 4, 5, 6, 7, 8]


def test_exclusions_double() -> None:
    session = SyncSession(0, SyncLimits(bar_ms=1_000, bar_max_ms=3_000))
    now_ms = 0
    for length_ms in (1_000, 2_000, 3_000, 3_000):
        (request,) = requests(session.status(A, 10, 1, now_ms))
        answer(session, request, now_ms, [b"\xc1"])
        assert session.status(A, 10, 1, now_ms + length_ms - 1) == []
        now_ms += length_ms


# ------------------------------------------------------------ decided blocks that come by themselves (6.12)


def test_a_decided_block_is_delivered_at_once() -> None:
    session = SyncSession(0)
    assert delivered(session.offer(A, 1, ENCODED[0], 0)) == [1]


def test_a_gap_before_a_decided_block_is_filled_and_the_block_is_not_asked_for_again() -> None:
    session = SyncSession(0)
    effects = session.offer(A, 4, ENCODED[3], 0)
    assert delivered(effects) == []
    (request,) = requests(effects)
    assert (request.from_height, request.count) == (1, 3)
    assert delivered(answer(session, request, 10)) == [1, 2, 3, 4]


def test_the_same_decided_block_from_several_is_delivered_once() -> None:
    session = SyncSession(0)
    assert delivered(session.offer(A, 1, ENCODED[0], 0)) == [1]
    assert delivered(session.offer(B, 1, ENCODED[0], 0)) == []
    session.applied(1, 0)
    assert delivered(session.offer(C, 1, ENCODED[0], 0)) == []


def test_a_decided_block_far_ahead_is_not_kept() -> None:
    session = SyncSession(0, SyncLimits(window_blocks=10))
    session.offer(A, 10**12, encode(with_height(CHAIN[0], 10**12)), 0)
    assert session.held_bytes == 0


def test_a_decided_block_under_another_height_is_punished() -> None:
    assert left_out(SyncSession(0).offer(A, 2, ENCODED[0], 0)) == [(A, True)]


def test_a_malformed_decided_block_is_punished() -> None:
    assert left_out(SyncSession(0).offer(A, 1, b"\xc1", 0)) == [(A, True)]


def test_a_probe_asks_whatever_was_announced_and_an_empty_answer_is_no_lie() -> None:
    session = SyncSession(0)
    (request,) = requests(session.probe(A, 0))
    assert (request.peer, request.from_height) == (A, 1)
    assert session.probe(A, 0) == []
    assert left_out(answer(session, request, 10, [])) == []
    (request,) = requests(session.probe(A, 20))
    assert delivered(answer(session, request, 30, ENCODED[:5])) == [1, 2, 3, 4, 5]


def test_consensus_hearing_of_a_higher_height_asks_the_holders_at_once() -> None:
    session = SyncSession(0)
    session.set_delegates([A, B], 3, 1, True, 0)
    session.status(A, 0, 1, 0)
    session.status(B, 0, 1, 0)
    asked = requests(session.fetch(1, [A, D], 0))
    assert [r.peer for r in asked] == [A]
    assert delivered(answer(session, asked[0], 10, ENCODED[:1])) == [1]


# ------------------------------------------------------------ level or behind (10.2)


def with_delegates(applied: int = 100) -> SyncSession:
    session = SyncSession(applied)
    session.set_delegates([A, B, C], 3, 1, True, 0)
    return session


def test_a_node_is_level_when_enough_delegates_are_heard_and_not_ahead() -> None:
    session = with_delegates()
    assert session.status(A, 100, 1, 0) == []
    assert session.status(B, 101, 1, 0)[-1:] == [CaughtUpChanged(True)]
    assert session.caught_up


def test_one_liar_cannot_make_a_node_level_nor_behind() -> None:
    session = with_delegates()
    session.status(A, 500, 1, 0)
    session.status(B, 500, 1, 0)
    session.status(C, 0, 1, 0)
    assert not session.caught_up
    session = with_delegates()
    for peer, height in ((A, 100), (B, 100), (C, 10**12)):
        session.status(peer, height, 1, 0)
    assert session.caught_up
    for now_ms in range(0, 20_000, 250):
        session.tick(now_ms)
    assert session.caught_up


def test_members_that_are_no_delegates_have_no_say() -> None:
    session = with_delegates()
    session.status(A, 100, 1, 0)
    session.status(B, 100, 1, 0)
    for number in range(10, 20):
        session.status(key(number), 10**6, 1, 0)
    assert session.caught_up


def test_a_short_lag_is_none_and_a_lasting_one_is() -> None:
    session = with_delegates()
    for peer in (A, B, C):
        session.status(peer, 100, 1, 0)
    for peer in (A, B, C):
        assert session.status(peer, 104, 1, 1_000) == []
    session.applied(104, 1_500)
    for peer in (A, B, C):
        session.status(peer, 110, 1, 2_000)
    assert session.caught_up
    effects = session.tick(2_250) + session.tick(3_000)
    assert CaughtUpChanged(False) in effects
    assert requests(effects)


def test_a_large_lag_is_one_at_once() -> None:
    session = with_delegates()
    for peer in (A, B, C):
        session.status(peer, 100, 1, 0)
    assert session.caught_up
    effects = [effect for peer in (A, B, C) for effect in session.status(peer, 300, 1, 10)]
    assert CaughtUpChanged(False) in effects


def test_having_caught_up_is_told() -> None:
    session = SyncSession(0)
    session.set_delegates([A, B, C], 3, 1, True, 0)
    pending: list[RequestBlocks] = []
    for peer in (A, B, C):
        pending += requests(session.status(peer, 200, 1, 0))
    seen: list[bool] = []
    while pending:
        effects = answer(session, pending.pop(0), 10)
        for height in delivered(effects):
            effects += session.applied(height, 10)
        pending += requests(effects)
        seen += [e.caught_up for e in effects if isinstance(e, CaughtUpChanged)]
    assert seen == [True]
    assert session.applied_height == 200


def test_a_lonely_node_of_a_chain_of_one_is_level() -> None:
    session = SyncSession(0)
    assert session.set_delegates([], 1, 0, True, 0) == [CaughtUpChanged(True)]


def test_losing_the_others_is_no_news() -> None:
    session = with_delegates()
    for peer in (A, B, C):
        session.status(peer, 100, 1, 0)
    for peer in (A, B, C):
        assert session.gone(peer, 10) == []
    assert session.caught_up


# ------------------------------------------------------------ any mix of peers


class Crowd:
    """Peers of several characters on a lossy network in virtual time, and a ledger that knows the true chain."""

    def __init__(self, seed: int, characters: list[str]) -> None:
        self.random = random.Random(seed)
        self.limits = SyncLimits(buffer_bytes=40_000, window_blocks=200, bar_ms=2_000)
        self.session = SyncSession(0, self.limits)
        self.characters = {key(10 + n): character for n, character in enumerate(["honest", *characters])}
        self.ledger = 0
        self.now_ms = 0
        self.punished: set[bytes] = set()
        self.flight: list[tuple[int, int, RequestBlocks]] = []
        self.sent = 0
        self.queue: list[SyncEffect] = []
        self.running = False

    def run(self, until_ms: int) -> None:
        while self.now_ms < until_ms and self.ledger < len(ENCODED):
            if self.now_ms % 1_000 == 0:
                for peer in self.characters:
                    self._do(self.session.status(peer, self._announced(peer), 1, self.now_ms))
            for item in sorted(self.flight):
                if item[0] <= self.now_ms:
                    self.flight.remove(item)
                    self._answer(item[2])
            self._do(self.session.tick(self.now_ms))
            assert self.session.held_bytes <= self.limits.buffer_bytes + 8 * 64 * max(map(len, ENCODED))
            self.now_ms += 50

    def _announced(self, peer: bytes) -> int:
        match self.characters[peer]:
            case "boaster":
                return 10**9
            case "lowering":
                return self.random.randrange(1, 400)
            case _:
                return len(ENCODED)

    def _do(self, effects: list[SyncEffect]) -> None:
        """Strictly in order: what comes up meanwhile comes after."""
        self.queue += effects
        if self.running:
            return
        self.running = True
        while self.queue:
            self._run(self.queue.pop(0))
        self.running = False

    def _run(self, effect: SyncEffect) -> None:
        match effect:
            case RequestBlocks():
                self.sent += 1
                delay_ms = {"silent": 10**9, "slow": 4_900}.get(
                    self.characters[effect.peer], self.random.randrange(10, 400)
                )
                self.flight.append((self.now_ms + delay_ms, self.sent, effect))
            case DeliverBlock(height=height, encoded=encoded) if height == self.ledger + 1:
                if encoded == ENCODED[height - 1]:
                    self.ledger = height
                    self._do(self.session.applied(height, self.now_ms))
                else:
                    self._do(self.session.invalid(height, "forged", self.now_ms))
            case LeaveOut(peer=peer, punish=True):
                self.punished.add(peer)
            case _:
                pass

    def _answer(self, request: RequestBlocks) -> None:
        blocks = list(collect_blocks(BlocksRequest(request.from_height, request.count), load))
        match self.characters[request.peer]:
            case "forger":
                blocks = OTHER[request.from_height - 1 : request.from_height - 1 + request.count]
            case "lazy":
                blocks = blocks[:1]
            case "noise":
                blocks = [b"\xc1"]
            case _:
                pass
        self._do(self.session.response(request.peer, request.from_height, blocks, self.now_ms))


CHARACTERS = ["honest", "silent", "slow", "boaster", "lowering", "forger", "lazy", "noise"]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.lists(st.sampled_from(CHARACTERS), max_size=5))
def test_with_one_honest_peer_among_any_others_the_whole_chain_arrives(
    seed: int, characters: list[str]
) -> None:
    crowd = Crowd(seed, characters)
    crowd.run(120_000)
    assert crowd.ledger == len(ENCODED)
    honest = {peer for peer, character in crowd.characters.items() if character not in ("forger", "noise")}
    assert not crowd.punished & honest
