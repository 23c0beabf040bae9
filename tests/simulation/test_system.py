"""Whole-system runs: the shipped engine under simulated replicas, and the second, plain model beside it."""

from collections import Counter
from dataclasses import replace

import msgspec
import pytest

from consensus.parameters import Parameters
from contracts.ballots import sign_ballot
from contracts.engine import BlockOutcome
from contracts.epoch_state import chain_of
from contracts.receipts import (
    BalanceChanged,
    CreditChanged,
    CreditReason,
    DelegatesChanged,
    EpochPhase,
    Event,
    FaultKind,
    FaultRecorded,
    PhaseChanged,
    Receipt,
    TradeChanged,
    TradeState,
)
from contracts.transaction import Ballots, Transfer, decode_transaction
from network.simulation.checkers import Finding
from network.simulation.system import draw, run_epochs, run_system, run_without_bootstrap, simulate
from network.simulation.system.bench import Bench
from network.simulation.system.books import Books
from network.simulation.system.elections import Elections
from network.simulation.system.false_plans import FORMS, PARAMETERS, run_false_plans


@pytest.mark.parametrize("seed", [2, 13])
def test_a_seed_ends_well(seed: int) -> None:
    """13 charged an honest primary when transactions counted as waiting that no block could hold yet, or any more."""
    scenario = replace(draw(seed), epochs=3)
    outcome = simulate(scenario)
    assert outcome.finding is None
    assert outcome.epochs >= 3
    assert outcome.reached["replayed from genesis"] == 1
    assert outcome.reached["block executed by own state"] >= outcome.height


def test_the_same_seed_leaves_the_same_trace() -> None:
    one, other = run_system(5, epochs=4), run_system(5, epochs=4)
    assert one.trace_hash == other.trace_hash
    assert one.reached == other.reached
    assert run_system(6, epochs=4).trace_hash != one.trace_hash


def test_real_keys_serve_too() -> None:
    scenario = replace(draw(99, 2), liars=())
    assert scenario.real_keys
    assert simulate(scenario).finding is None


def test_every_boundary_of_an_epochs_campaign_has_a_fault() -> None:
    outcome = run_epochs(3, epochs=8)
    assert outcome.finding is None
    assert outcome.boundaries == outcome.boundary_faults == 8


def test_nobody_misses_the_bootstrap_service() -> None:
    assert run_without_bootstrap(4, epochs=6).finding is None


def test_every_false_plan_is_refused_for_its_reason() -> None:
    refusals = list(run_false_plans())
    assert len(refusals) == len(FORMS) >= 20
    assert [refusal for refusal in refusals if not refusal.right] == []


# ---------------------------------------------------------------------- the model finds what is wrong


class Model:
    """A bench with books and elections beside it, and a hand that may change receipts on their way there."""

    def __init__(self, parameters: Parameters = PARAMETERS) -> None:
        self.bench = Bench(1, 8, parameters)
        state = self.bench.state
        self.books = Books(self.bench.cast.genesis)
        groups = [[m.address for m in group] for group in state.epoch.grouping(0).groups]
        ranking = [seat.holder for seat in state.epoch.seat_sets.require((1).to_bytes(8, "big")).ranking]
        self.reached: Counter[str] = Counter()
        self.elections = Elections(
            self.bench.cast.genesis, self.books, self.bench.cast.ring, groups, ranking, self.reached
        )

    def block(
        self, *data: bytes, plant: tuple[Event, ...] = (), drop: type[Event] | None = None
    ) -> BlockOutcome:
        """A block; the model is shown ``plant`` in the block's own receipt, and nothing of the kind ``drop``."""
        outcome = self.bench.block(*data)
        last = outcome.receipts[-1]
        events = tuple(event for event in last.events if drop is None or not isinstance(event, drop))
        shown = Receipt(last.transaction_id, last.code, last.rejections, (*events, *plant))
        receipts = (*outcome.receipts[:-1], shown)
        transactions = [decode_transaction(item) for item in data]
        block = self.bench.last
        self.books.block(block.header.height, transactions, receipts)
        self.elections.block(block, transactions, receipts)
        return outcome

    def go_to(self, phase: EpochPhase) -> None:
        """Until the next block is of ``phase``."""
        self.block()
        while self.bench.phase is not phase:
            self.block()

    def ballot(self, player: int, choice: int, *, forged: bool = False) -> bytes:
        """For the seat of the player's group in the next epoch."""
        cast, epoch = self.bench.cast, chain_of(self.bench.state).epoch + 1
        voter = cast.players[player]
        grouping = self.bench.state.epoch.grouping(epoch)
        group = [member.address for member in grouping.groups[grouping.group_of[voter.address]]]
        ballot = sign_ballot(cast.chain_id, voter.signer, epoch, 1, (group[choice],))
        if forged:
            ballot = msgspec.structs.replace(ballot, signature=bytes(64))
        return cast.transaction(Ballots((ballot,)), (voter.signer,), self.bench.time_ms + 1_000)


def test_the_model_follows_several_epochs_with_ballots() -> None:
    model = Model()
    for _ in range(3):
        model.go_to(EpochPhase.VOTING)
        model.block(*(model.ballot(player, player % 2) for player in range(8)))
        model.go_to(EpochPhase.RUNNING)
    model.books.compare(model.bench.state, 0)
    assert model.reached["tally"] == 3


def test_money_out_of_nothing_breaks_s7() -> None:
    model = Model()
    address = model.bench.cast.players[0].address
    balance = model.books.of[address].balance
    with pytest.raises(Finding, match=r"^S7: balances"):
        model.block(plant=(BalanceChanged(address, 5, balance + 5),))


def test_a_balance_that_is_not_the_sum_breaks_s7() -> None:
    model = Model()
    with pytest.raises(Finding, match=r"^S7: a balance"):
        model.block(plant=(BalanceChanged(model.bench.cast.players[0].address, 5, 7),))


def test_credit_without_an_entry_breaks_s7() -> None:
    model = Model()
    address = model.bench.cast.players[0].address
    with pytest.raises(Finding, match=r"^S7, 3\.5"):
        model.block(plant=(CreditChanged(address, CreditReason.ENTRY, 1, 50_000),))
    model = Model()
    state = model.bench.state
    model.block()
    account = state.accounts.require(address)
    state.accounts.put(address, msgspec.structs.replace(account, credit=account.credit + 1))
    with pytest.raises(Finding, match=r"^S7: .* its events add up"):
        model.books.compare(state, 1)


def test_a_contract_that_ends_without_having_begun_breaks_s7() -> None:
    model = Model()
    parties = [player.address for player in model.bench.cast.players[:2]]
    with pytest.raises(Finding, match=r"^S7: a contract ends twice"):
        model.block(plant=(TradeChanged(bytes(32), TradeState.SETTLED, *parties),))


def test_a_lost_transfer_breaks_s7() -> None:
    model = Model()
    one, other = model.bench.cast.players[:2]
    cast = model.bench.cast
    data = cast.transaction(Transfer(other.address, 3), (one.signer,), model.bench.time_ms + 1_000)
    model.bench.block(data)
    with pytest.raises(Finding, match=r"^S7: .* its events add up"):
        model.books.compare(model.bench.state, 1)


def test_a_ballot_that_nobody_signed_breaks_5_2() -> None:
    model = Model()
    model.go_to(EpochPhase.VOTING)
    with pytest.raises(Finding, match=r"^5\.2: .* forged"):
        model.block(model.ballot(0, 0, forged=True))


def test_a_wrong_tally_breaks_s12() -> None:
    model = Model()
    model.go_to(EpochPhase.VOTING)
    while True:
        model.block(*([model.ballot(0, 1)] if not model.reached["asked"] else []))
        model.reached["asked"] += 1
        if model.bench.ends_phase():
            break
    with pytest.raises(Finding, match=r"^S12"):
        model.block(drop=DelegatesChanged)


def test_a_set_that_no_recount_gives_breaks_s12() -> None:
    model = Model()
    ranking = tuple(player.address for player in model.bench.cast.players[:4])
    with pytest.raises(Finding, match=r"^S12"):
        model.block(plant=(DelegatesChanged(3, ranking),))


def test_a_fault_that_the_chain_does_not_show_breaks_3_2() -> None:
    model = Model()
    address = model.bench.cast.players[0].address
    with pytest.raises(Finding, match=r"^3\.2"):
        model.block(plant=(FaultRecorded(address, FaultKind.DOWN, 1, True),))


def test_a_phase_that_ends_too_early_breaks_4_4() -> None:
    model = Model()
    with pytest.raises(Finding, match=r"^4\.4"):
        model.block(plant=(PhaseChanged(0, EpochPhase.PLANNING),))
