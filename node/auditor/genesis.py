"""Block 0: its rules, and the state that follows from it (PROTOCOL 1.5, 9.1, 11; annex on the state, 3)."""

from node.auditor import planner
from node.auditor.election import Voter, count, ranked
from node.auditor.encoding import (
    MAX_INTEGER,
    address_of,
    encode,
    key_is_acceptable,
    merkle_root,
    signature_holds,
    u64,
)
from node.auditor.epoch import RUNNING
from node.auditor.ledger import ENTRY_CREDIT, Ledger
from node.auditor.shapes import INVITED, OPEN, Genesis
from node.auditor.state import (
    Account,
    ChainRecord,
    Groups,
    Metering,
    MeterRecord,
    SeatSet,
    Snapshot,
    Totals,
)

MAX_OPERATORS = 16
MAX_BALANCE = 10**18


def genesis_faults(genesis: Genesis) -> list[str]:
    """Every rule that ``genesis`` breaks."""
    g, p = genesis, genesis.parameters
    addresses = [address_of(member.public_key) for member in g.members]
    meters = [member.meter_public_key for member in g.members]
    keys = [*g.operators, *(member.public_key for member in g.members), *meters]
    rules = {
        "the version is 1": g.version == 1,
        "there are members, in address order, each once": addresses == sorted(set(addresses)) != [],
        "no two members share a meter": len(set(meters)) == len(meters),
        "no meter's power exceeds max_power_w": all(m.max_power_w <= p.max_power_w for m in g.members),
        "at most 16 operators, each once": len(set(g.operators)) == len(g.operators) <= MAX_OPERATORS,
        "keys are of the prime-order group and canonical": all(map(key_is_acceptable, keys)),
        "the threshold is one of the operators'": bool(g.operators)
        <= g.operator_threshold
        <= len(g.operators),
        "an invited chain has operators": g.admission != INVITED or bool(g.operators),
        "an open chain grants no entry_balance": g.admission != OPEN or g.entry_balance == 0,
        "no balance exceeds 10^18": max(g.entry_balance, g.founding_balance) <= MAX_BALANCE,
        "the balances stay below 2^63": g.founding_balance * len(g.members) <= MAX_INTEGER,
    }
    broken = [text for text, holds in rules.items() if not holds]
    for member, address in zip(g.members, addresses, strict=True):
        fields = (g.chain_name, member.public_key, member.meter_public_key, member.max_power_w)
        message = b"cgpbft/registration/1" + encode(fields)
        if not signature_holds(member.public_key, message, member.signature):
            broken.append(f"the registration of {address.hex()} is signed by its key")
    return broken + _parameter_faults(genesis)


def _parameter_faults(genesis: Genesis) -> list[str]:
    p, members = genesis.parameters, len(genesis.members)
    faults = ((p.groups or members) - 1) // 3
    bound = p.max_drift_ms + (faults + 1) * (p.request_timeout_ms + p.view_timeout_ms)
    positive = [
        "slot_ms",
        "slot_nominal_ms",
        "view_timeout_ms",
        "request_timeout_ms",
        "empty_block_interval_ms",
    ]
    positive += [
        "missed_limit",
        "trade_reference_wh",
        "max_block_transactions",
        "tx_window_ms",
        "max_power_w",
        "run_ms",
    ]
    rules = {
        "delta < gamma (3.1)": p.delta < p.gamma,
        "alpha < beta (3.1)": p.alpha < p.beta,
        f"planning_ms >= {bound} (4.4)": p.planning_ms >= bound,
        f"voting_ms >= {bound} (4.4)": p.voting_ms >= bound,
        f"missed_ms >= {bound} (3.2)": p.missed_ms >= bound,
        "max_drift_ms <= slot_ms // 2": p.max_drift_ms <= p.slot_ms // 2,
        "meter_deadline_ms >= 10 * max_drift_ms": p.meter_deadline_ms >= 10 * p.max_drift_ms,
        "4 delegates, or allow_non_bft (6.2)": p.allow_non_bft or (min(p.groups, members) or members) >= 4,
        "view_timeout_max_ms >= view_timeout_ms": p.view_timeout_max_ms >= p.view_timeout_ms,
        "max_block_bytes >= 65 536": p.max_block_bytes >= 65_536,
        "max_power_w <= 100 000 000": p.max_power_w <= 100_000_000,
    }
    rules |= {f"{name} is positive": getattr(p, name) > 0 for name in positive}
    return [text for text, holds in rules.items() if not holds]


def found(ledger: Ledger) -> bytes:
    """Write the state after block 0; its root."""
    state, genesis, chain_id = ledger.state, ledger.genesis, ledger.chain_id
    slot, balance = genesis.time_ms // ledger.parameters.slot_ms, genesis.founding_balance
    members = [(address_of(member.public_key), member) for member in genesis.members]
    for address, member in members:
        account = Account(member.public_key, balance, ENTRY_CREDIT, 0, 0, 0, 0, None)
        state.accounts.put(address, account)
        term = (member.meter_public_key, member.max_power_w, slot + 1)
        state.meters.put(address, MeterRecord((term,), slot + 1, None))
        state.meter_owners.put(member.meter_public_key, (address,))
    total = balance * len(members)
    state.totals.value = Totals(total, 0, total, 0, 0, len(members), 0)
    state.metering.value = Metering(slot, slot)
    state.tip.value = (merkle_root([]),)
    state.chain.value = ChainRecord(0, chain_id, genesis.time_ms, 0, bytes(20), 0, 1, RUNNING, 0, 0)
    state.missed.value = ((),)
    _first_groups(ledger, [address for address, _ in members])
    return state.commit()


def _first_groups(ledger: Ledger, addresses: list[bytes]) -> None:
    """PROTOCOL 4.7: the built-in plan with the genesis hash as seed, delegates as without ballots."""
    p, seed, m = ledger.parameters, ledger.chain_id, len(addresses)
    rules = planner.Rules(min(p.groups, m) or m, seed, p.energy_tolerance_bp, p.credit_tolerance_bp)
    energy, credit = [0] * m, [ENTRY_CREDIT] * m
    assignment = planner.built_in_plan(addresses, energy, credit, rules)
    score = planner.score_of(assignment, energy, credit, rules)
    members = tuple((address, 0, ENTRY_CREDIT, True) for address in addresses)
    ledger.state.snapshots.put(u64(0), Snapshot(0, 0, seed, members))
    ledger.state.groups.put(u64(0), Groups(0, rules.groups, assignment, score, None))
    voters = [Voter(address, 0, ENTRY_CREDIT, False, False, False) for address in addresses]
    seats = []
    for group in range(rules.groups):
        inside = [voter for voter, number in zip(voters, assignment, strict=True) if number == group]
        seats.append(count(group, inside, inside, {}, seed).seat)
    ranking = ranked(seats, seed, first_epoch=True)
    ledger.state.seat_sets.put(u64(1), SeatSet(0, 1, 0, ranking))
