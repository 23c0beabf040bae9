"""The auditor and the engine agree on every root of whole random histories (PROTOCOL 12, S6, S7, S12)."""

from collections import Counter
from typing import Any

import pytest

from consensus.encoding import encode
from contracts.genesis import Admission
from contracts.receipts import ReasonCode
from node.auditor.replay import Audit, Prepared, failed_checks
from tests.unit.auditor.forging import audit_of, removal
from tests.unit.auditor.history import CertifiedChain, Market

SETTINGS: list[dict[str, Any]] = [
    {},
    {
        "operators": 3,
        "threshold": 2,
        "admission": Admission.INVITED,
        "entry_balance": 10**12,
        "energy_tolerance_bp": 0,
        "credit_tolerance_bp": 0,
    },
    {"members": 12, "groups": 7, "operators": 2, "credit_tolerance_bp": 0},
    {"members": 5, "groups": 0, "trade_reference_wh": 50_000},
    {"members": 3, "groups": 2, "allow_non_bft": True, "dormant_epochs": 0},
]


def compare(chain: CertifiedChain) -> Audit:
    """Replay beside the engine's outcomes: roots, receipts and, at the end, every entry of the state."""
    audit = Audit(chain.genesis_bytes)
    before: Prepared | None = None
    for height, (data, outcome) in enumerate(zip(chain.certified, chain.outcomes, strict=True), start=1):
        before = Prepared(height, data, audit.chain_id, before)
        audit.add(before, failed_checks(before.checks))
        assert audit.findings == []
        assert audit.receipts == [encode(receipt) for receipt in outcome.receipts], height
        assert audit.root == outcome.state_root, height
    audit.check_sums()
    assert audit.findings == []
    assert audit.entries == dict(chain.state.entries())
    return audit


@pytest.mark.parametrize("settings", range(len(SETTINGS)))
@pytest.mark.parametrize("seed", range(2))
def test_every_root_of_a_random_history_is_the_engines(seed: int, settings: int) -> None:
    chain = Market(100 * settings + seed, **SETTINGS[settings]).run(epochs=3)
    audit = compare(chain)
    assert audit.summary().elections == 3
    assert audit.summary().transactions == sum(len(block.transactions) for block in chain.blocks)


def test_the_histories_reach_what_they_are_made_for() -> None:
    codes: Counter[str] = Counter()
    events: Counter[str] = Counter()
    for settings in (0, 1, 2):
        chain = Market(7 + settings, **SETTINGS[settings]).run(epochs=4)
        compare(chain)
        for outcome in chain.outcomes:
            for receipt in outcome.receipts:
                codes[receipt.code.name] += 1
                codes.update(part.code.name for part in receipt.rejections)
                events.update(type(event).__name__ for event in receipt.events)
    assert len(codes) > 30
    assert set(events) >= {
        "TradeSettled",
        "SlotAllocated",
        "CancelSigned",
        "MemberLeft",
        "MemberJoined",
        "MeterChanged",
        "FaultRecorded",
        "HeartbeatSeen",
        "MoneyIssued",
        "MoneyRedeemed",
        "GroupTallied",
        "DelegatesChanged",
    }
    assert codes[ReasonCode.OK.name] > 200


@pytest.mark.parametrize("seed", range(1))
def test_deadlines_and_old_readings_that_wait_for_the_next_block(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Annex on the state, 5.2 and 5.3, with a limit of 2 instead of 4 096."""
    monkeypatch.setattr("contracts.deadlines.MAX_DEADLINES", 2)
    monkeypatch.setattr("node.auditor.metering.MAX_DEADLINES", 2)
    chain = Market(seed, halts=0.1).run(epochs=3)
    compare(chain)


def test_a_proven_removal_is_accepted_and_its_id_stays_refused() -> None:
    chain = CertifiedChain(members=8, groups=4)
    chain.block(after_ms=500)
    victim = chain.transaction(chain.members[0], _transfer(chain))
    chain.block(after_ms=500, view=2, discarded=(removal(chain, victim),))
    chain.block(after_ms=500)
    audit = compare(chain)
    assert victim.id in audit.execution.known_ids
    assert audit_of(chain).findings == []


def _transfer(chain: CertifiedChain) -> Any:
    from contracts.transaction import Transfer

    return Transfer(chain.members[1].address, 5)
