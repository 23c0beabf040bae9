"""The load of a whole-system run: trades in every state, meters with shortfalls, money, meters, and refused wishes."""

import random
from collections.abc import Callable
from typing import Final

from consensus.signing import Signer
from consensus.types import Address
from contracts.receipts import TradeState
from contracts.state import SINGLETON, State
from contracts.trade_records import Contract
from contracts.transaction import (
    BuyerRule,
    ChangeMeter,
    Excuse,
    Issue,
    Payload,
    Readings,
    Redeem,
    Terms,
    TradeAccept,
    TradeCancel,
    TradeDecline,
    TradeOffer,
    TradeOpen,
    TradeWithdraw,
    Transfer,
)
from network.simulation.system.cast import MAX_POWER_W, Cast, Player

Submit = Callable[[bytes], None]
SHORT_WINDOW_MS: Final = (100, 2_000)
"""Bounds of windows that may pass unseen."""
SHORTFALL_PERCENT: Final = 25
"""How often a party's meter shows less than agreed."""
GREATEST_WH: Final = 8_000
"""Of a contract: what a meter of `MAX_POWER_W` can show in one slot of a quarter of an hour, and less."""
READINGS_EACH: Final = 24
"""Readings in a transaction: what a simulated block has room for."""


class Traders:
    """Draws what members and operators wish for, by the state at hand."""

    def __init__(self, cast: Cast, rng: random.Random, submit: Submit) -> None:
        self._cast = cast
        self._rng = rng
        self._submit = submit
        self._read: dict[Address, int] = {}
        """Per member the first slot not reported yet."""
        self._acts: tuple[tuple[int, Callable[[State, int], None]], ...] = (
            (4, self._offer),
            (4, self._open),
            (6, self._answer),
            (2, self._cancel),
            (2, self._transfer),
            (1, self._issue_or_redeem),
            (1, self._excuse),
            (1, self._change_meter),
        )

    def act(self, state: State, wall_ms: int) -> None:
        """One wish of somebody."""
        chosen = self._rng.choices(self._acts, [weight for weight, _ in self._acts])[0]
        chosen[1](state, wall_ms)

    def probe(self, state: State, wall_ms: int) -> bytes:
        """A transaction that must commit, whatever it is worth: valid as long as a window may be."""
        sender, recipient = self._rng.sample(self._members(state), 2)
        return self._cast.transaction(Transfer(recipient.address, 1), (sender.signer,), wall_ms)

    def report(self, state: State, wall_ms: int) -> None:
        """Meters of parties with open contracts report the slots that have ended."""
        slot_ms = self._cast.parameters.slot_ms
        wishes: dict[Address, tuple[int, int, int, int]] = {}
        for contract in [item[1] for item in state.contracts.items()]:
            start = contract.terms.start_ms // slot_ms
            end = start + contract.terms.slots
            for address, sells in ((contract.terms.seller, True), (contract.terms.buyer, False)):
                first, last, sold, bought = wishes.get(address, (start, end, 0, 0))
                each = -(-contract.terms.quantity_wh // contract.terms.slots)
                wishes[address] = (
                    min(first, start),
                    max(last, end),
                    sold + each * sells,
                    bought + each * (not sells),
                )
        open_slot = state.metering.require(SINGLETON).open_slot
        ended = (wall_ms - slot_ms // 4) // slot_ms
        for address, (first, last, sold, bought) in wishes.items():
            begin = max(first, open_slot, self._read.get(address, 0))
            slots = range(begin, min(last, ended))[:READINGS_EACH]
            if not slots or self._rng.random() < 0.3:
                continue
            self._read[address] = slots.stop
            self._send_readings(self._cast.by_address[address], slots, sold, bought, wall_ms)

    def _send_readings(self, player: Player, slots: range, sold: int, bought: int, wall_ms: int) -> None:
        readings = []
        for slot in slots:
            if self._rng.randrange(100) < 5:
                continue  # a gap: the slot closes without a reading (PROTOCOL 2.4)
            readings.append(self._cast.sign_reading(player, slot, self._metered(sold), self._metered(bought)))
        if readings:
            carrier = self._rng.choice(self._cast.players)
            self._send(Readings(tuple(readings)), (carrier.signer,), wall_ms)

    def _metered(self, agreed_wh: int) -> int:
        """What a meter shows of what was agreed: mostly enough."""
        if self._rng.randrange(100) < SHORTFALL_PERCENT:
            agreed_wh = agreed_wh * self._rng.randrange(100) // 100
        return min(agreed_wh, MAX_POWER_W // 4)

    # ------------------------------------------------------------------ wishes

    def _offer(self, state: State, wall_ms: int) -> None:
        seller, buyer = self._rng.sample(self._cast.players, 2)
        offerer = self._rng.choice((seller, buyer))
        self._send(TradeOffer(self._terms(seller, buyer, wall_ms)), (offerer.signer,), wall_ms)

    def _open(self, state: State, wall_ms: int) -> None:
        seller, buyer = self._rng.sample(self._members(state), 2)
        self._send(TradeOpen(self._terms(seller, buyer, wall_ms)), (seller.signer, buyer.signer), wall_ms)

    def _terms(self, seller: Player, buyer: Player, wall_ms: int) -> Terms:
        rng, slot_ms = self._rng, self._cast.parameters.slot_ms
        start_ms = (wall_ms // slot_ms + rng.randint(2, 6)) * slot_ms
        return Terms(
            seller=seller.address,
            buyer=buyer.address,
            quantity_wh=rng.choice((1, rng.randint(1, 500), rng.randint(1, GREATEST_WH))),
            price=rng.choice((0, 250_000, rng.randrange(10**6), 10**9)),
            start_ms=start_ms,
            slots=rng.randint(1, 4),
            penalty_bp=rng.choice((0, 1_000, 10_000)),
            buyer_rule=rng.choice((BuyerRule.PAY_ACTUAL, BuyerRule.TAKE_OR_PAY)),
            expiry_ms=start_ms - rng.choice((0, slot_ms)),
        )

    def _answer(self, state: State, wall_ms: int) -> None:
        """An open offer is accepted, declined or withdrawn, sometimes by somebody who may not."""
        offers = [item for item in state.offers.items() if item[1].terms.expiry_ms > wall_ms]
        if not offers:
            return
        offer_id, offer = self._rng.choice(offers)
        terms = offer.terms
        other = terms.buyer if offer.offerer == terms.seller else terms.seller
        answer: Payload
        match self._rng.randrange(8):
            case 0:
                sender, answer = offer.offerer, TradeWithdraw(offer_id)
            case 1:
                sender, answer = other, TradeDecline(offer_id)
            case 2:
                sender, answer = offer.offerer, TradeAccept(offer_id)
            case _:
                sender, answer = other, TradeAccept(offer_id)
        self._send(answer, (self._cast.by_address[sender].signer,), wall_ms)

    def _cancel(self, state: State, wall_ms: int) -> None:
        """One party, or both, give a contract up before it begins."""
        found = self._contract(state, TradeState.ACTIVE)
        if found is None:
            return
        contract_id, contract = found
        parties = (contract.terms.seller, contract.terms.buyer)
        for address in parties[: self._rng.choice((1, 2, 2))]:
            self._send(TradeCancel(contract_id), (self._cast.by_address[address].signer,), wall_ms)

    def _contract(self, state: State, *states: TradeState) -> tuple[bytes, Contract] | None:
        contracts = [item for item in state.contracts.items() if item[1].state in states]
        return self._rng.choice(contracts) if contracts else None

    def _transfer(self, state: State, wall_ms: int) -> None:
        sender, recipient = self._rng.sample(self._cast.players, 2)
        amount = self._rng.choice((1, 10**6, 10**12, 10**17))
        self._send(Transfer(recipient.address, amount), (sender.signer,), wall_ms)

    def _issue_or_redeem(self, state: State, wall_ms: int) -> None:
        player = self._rng.choice(self._cast.players)
        amount = self._rng.randint(1, 10**12)
        approving = self._cast.operators[: self._rng.choice((1, 2, 3))]
        if self._rng.random() < 0.5:
            self._send(Issue(player.address, amount), approving, wall_ms)
        else:
            self._send(Redeem(amount), (player.signer, *approving), wall_ms)

    def _excuse(self, state: State, wall_ms: int) -> None:
        found = self._contract(state, TradeState.ACTIVE, TradeState.METERING)
        if found is not None:
            approving = self._cast.operators[: self._rng.choice((1, 2, 2))]
            self._send(Excuse(found[0]), approving, wall_ms)

    def _change_meter(self, state: State, wall_ms: int) -> None:
        player = self._rng.choice(self._members(state))
        power_w = self._rng.choice((MAX_POWER_W, MAX_POWER_W // 2))
        self._send(ChangeMeter(self._cast.meter(player, power_w)), (player.signer,), wall_ms)

    # ------------------------------------------------------------------ sending

    def _members(self, state: State) -> list[Player]:
        """Those in the state that have not left."""
        return [
            self._cast.by_address[address]
            for address, account in state.accounts.items()
            if account.left_height is None
        ]

    def _send(self, payload: Payload, signers: tuple[Signer, ...], wall_ms: int) -> None:
        window_ms = None
        if self._rng.randrange(10) == 0:
            window_ms = self._rng.randint(*SHORT_WINDOW_MS)
        self._submit(self._cast.transaction(payload, signers, wall_ms, window_ms))
