"""The audit: every block from genesis, its certificate, its rules and the roots that follow (PROTOCOL 6.8, 9.1, 12)."""

from collections.abc import Iterable
from typing import NamedTuple

from node.auditor.election import primary
from node.auditor.encoding import Malformed, address_of, decode, encode, merkle_root, signature_holds, tagged
from node.auditor.execution import Execution
from node.auditor.genesis import found, genesis_faults
from node.auditor.ledger import Ledger
from node.auditor.removal import Place, Unproven, check_removal
from node.auditor.shapes import (
    CERTIFIED_BLOCK,
    GENESIS,
    MAX_BLOCK_BYTES,
    MAX_GENESIS_BYTES,
    TYPE_NAMES,
    Block,
    Certificate,
    CertifiedBlock,
    Header,
)
from node.auditor.state import SeatSet
from node.auditor.validity import (
    Check,
    Decoded,
    certificate_checks,
    shape_fault,
    transaction_checks,
    window_holds,
)

NO_CERTIFICATE_HASH = tagged("certificate", b"")


class Finding(NamedTuple):
    """A rule that a block breaks."""

    height: int
    rule: str
    """The section of docs/PROTOCOL.md, and what it is about."""
    expected: str
    found: str


class Summary(NamedTuple):
    """What was audited."""

    blocks: int
    transactions: int
    trades_settled: int
    elections: int
    state_root: bytes


class Prepared:
    """A block read and decoded, before its rules are judged."""

    def __init__(self, height: int, data: bytes, chain_id: bytes, before: "Prepared | None") -> None:
        """`Malformed` unless ``data`` is a canonical certified block."""
        certified: CertifiedBlock = decode(data, CERTIFIED_BLOCK, MAX_BLOCK_BYTES)
        self.height = height
        self.block: Block = certified.block
        self.certificate: Certificate = certified.certificate
        self.digest = tagged("block.header", encode(self.block.header))
        self.included, self.faults = _decoded(self.block.transactions, "transaction")
        self.removed, faults = _decoded(
            [item.transaction for item in self.block.discarded], "removed transaction"
        )
        self.faults += faults
        self.checks: list[tuple[str, Check]] = []
        for number, item in enumerate(self.included):
            what = f"6.8 signature of transaction {number}"
            self.checks += [(what, check) for check in transaction_checks(item, chain_id)]
        certificate = certificate_checks(self.certificate, chain_id)
        self.checks += [("6.4 commit in the certificate", check) for check in certificate]
        if self.block.last_commit is not None:
            known = set() if before is None else set(certificate_checks(before.certificate, chain_id))
            commits = certificate_checks(self.block.last_commit, chain_id)
            self.checks += [("9.1 commit in the last-commit", c) for c in commits if c not in known]


def _decoded(raws: Iterable[bytes], what: str) -> tuple[list[Decoded], list[str]]:
    decoded, faults = [], []
    for number, raw in enumerate(raws):
        try:
            decoded.append(Decoded(raw))
        except Malformed as error:
            faults.append(f"{what} {number}: {error}")
    return decoded, faults


def failed_checks(checks: list[tuple[str, Check]]) -> list[tuple[str, bytes]]:
    """What does not verify, and whose key it names."""
    return [(what, check[0]) for what, check in checks if not signature_holds(*check)]


class Audit:
    """One replay; `findings` grows."""

    def __init__(self, genesis: bytes) -> None:
        """Begin at block 0; what is wrong with the genesis is a finding of height 0."""
        self.findings: list[Finding] = []
        self._stopped = False
        self.height = 0
        """Of the block that is judged."""
        self.applied = 0
        self.transactions = 0
        self.kinds: dict[str, int] = {}
        self.chain_id = tagged("genesis", genesis)
        self._parent: Prepared | None = None
        self._parent_digest = self.chain_id
        try:
            self.genesis = decode(genesis, GENESIS, MAX_GENESIS_BYTES)
        except Malformed as error:
            self.note("9.4 genesis", "a canonical genesis", str(error), stop=True)
            return
        for fault in genesis_faults(self.genesis):
            self.note("11 genesis", fault, "a genesis that breaks this", stop=True)
        if self.is_stopped():
            return
        self.ledger = Ledger(self.genesis, self.chain_id)
        self.root = found(self.ledger)
        self.execution = Execution(self.ledger)
        self.receipts: list[bytes] = []

    def is_stopped(self) -> bool:
        """Whether a finding keeps what comes after it from being judged."""
        return self._stopped

    @property
    def parent_digest(self) -> bytes:
        """Hash of the last block."""
        return self._parent_digest

    @property
    def entries(self) -> dict[bytes, bytes]:
        """The state after the last block: full key to encoded record."""
        return self.ledger.state.entries

    def note(self, rule: str, expected: object, found_: object, *, stop: bool = False) -> None:
        """Add a finding of the present height; with ``stop`` nothing after it can be judged."""
        self.findings.append(Finding(self.height, rule, _shown(expected), _shown(found_)))
        self._stopped = self._stopped or stop

    def compare(self, rule: str, expected: object, found_: object, *, stop: bool = False) -> None:
        """Add a finding unless the two are equal."""
        if expected != found_:
            self.note(rule, expected, found_, stop=stop)

    def missing(self, height: int, why: str, rule: str = "9.1 block") -> None:
        """A block that cannot be read."""
        self.height = height
        self.note(rule, f"block {height}", why, stop=True)

    def add(self, prepared: Prepared, failed: list[tuple[str, bytes]]) -> None:
        """Judge and apply the next block."""
        self.height = prepared.height
        for what, key in failed:
            self.note(what, "a valid signature", f"one of key {key.hex()} that does not verify")
        for fault in prepared.faults:
            self.note("9.4 transactions", "canonical transactions", fault, stop=True)
        if self.is_stopped():
            return
        epoch, header = self.execution.epoch, prepared.block.header
        current = epoch.seats(prepared.height)
        first = epoch.head_of(prepared.height)
        self._check_header(header, current, first)
        self._check_contents(prepared.block, prepared)
        self._check_certificates(prepared, current)
        self._check_transactions(prepared)
        self._check_removals(prepared, current, first)
        if self.is_stopped():
            return
        self.receipts = self.execution.apply(
            prepared.block, prepared.digest, prepared.included, prepared.removed
        )
        self.root = self.ledger.state.tree.root
        self._parent, self._parent_digest = prepared, prepared.digest
        self.applied += 1
        self.transactions += len(prepared.included)

    # ---- header

    def _check_header(self, header: Header, current: SeatSet, first: bytes) -> None:
        chain, seats = self.ledger.state.chain.value, self.execution.epoch.seats
        self.compare("9.1 version", 1, header.version)
        self.compare("9.1 chain id", self.chain_id, header.chain_id)
        self.compare("9.1 height", self.height, header.height, stop=True)
        self.compare("4.4 epoch", chain.epoch, header.epoch)
        self.compare("9.1 parent hash", self._parent_digest, header.parent_hash)
        if header.time_ms <= chain.time_ms:
            self.note("6.8 time", f"a time after {chain.time_ms}", header.time_ms)
        self.compare("6.3 proposer", primary(current, first, header.view), header.proposer)
        self.compare("9.1 receipts root", self.ledger.state.tip.value[0], header.receipts_root, stop=True)
        self.compare("9.1 state root", self.root, header.state_root, stop=True)
        self.compare("7.2 delegates hash", self._set_hash(current), header.delegates_hash, stop=True)
        following = self._set_hash(seats(self.height + 1))
        self.compare("7.2 next delegates hash", following, header.next_delegates_hash, stop=True)

    def _set_hash(self, seats: SeatSet) -> bytes:
        accounts = self.ledger.state.accounts
        return tagged("delegates", encode([(a, accounts[a].public_key) for a in seats.holders]))

    def _check_contents(self, block: Block, prepared: Prepared) -> None:
        header, rules = block.header, self.ledger.parameters
        root = merkle_root([item.reference for item in prepared.included])
        self.compare("9.1 transaction root", root, header.transactions_root)
        commit = block.last_commit
        hashed = NO_CERTIFICATE_HASH if commit is None else tagged("certificate", encode(commit))
        self.compare("9.1 last-commit hash", hashed, header.last_commit_hash)
        encoded = [encode(item) for item in block.discarded]
        root = merkle_root([tagged("discard", item) for item in encoded])
        self.compare("9.1 discarded root", root, header.discarded_root)
        size = sum(map(len, block.transactions)) + sum(map(len, encoded))
        if size > rules.max_block_bytes or len(block.transactions) > rules.max_block_transactions:
            limit = f"at most {rules.max_block_transactions} transactions and {rules.max_block_bytes} bytes"
            self.note("6.8 size", limit, f"{len(block.transactions)} and {size}")
        earliest = self.ledger.state.chain.value.time_ms + rules.empty_block_interval_ms
        if not block.transactions and not block.discarded and header.time_ms < earliest:
            self.note("6.9 empty block", f"a time of at least {earliest}", header.time_ms)

    # ---- certificates

    def _check_certificates(self, prepared: Prepared, current: SeatSet) -> None:
        header = prepared.block.header
        self._check_certificate("6.4 certificate", prepared.certificate, header, prepared.digest, current)
        commit = prepared.block.last_commit
        if self._parent is None:
            self.compare("9.1 last-commit", None, commit)
        elif commit is None:
            self.note("9.1 last-commit", f"the commits for block {self.height - 1}", None)
        else:
            before = self.execution.epoch.seats(self.height - 1)
            parent = self._parent.block.header
            self._check_certificate("9.1 last-commit", commit, parent, self._parent_digest, before)

    def _check_certificate(
        self, rule: str, certificate: Certificate, header: Header, digest: bytes, seats: SeatSet
    ) -> None:
        place = (header.epoch, header.height, digest)
        named = (certificate.epoch, certificate.height, certificate.digest)
        if place != named:
            self.note(rule, f"commits for {_shown(place)}", named)
        if certificate.view < header.view:
            self.note(rule, f"a view of at least {header.view} (6.3)", certificate.view)
        signers = [address_of(key) for key, _ in certificate.signatures]
        if len(set(signers)) < seats.quorum:
            self.note(rule, f"{seats.quorum} distinct delegates (6.2)", len(set(signers)))
        for signer in signers:
            if signer not in seats.holders:
                self.note(rule, "signers that hold seats (S3)", signer)
        ranks = [seats.holders.index(signer) for signer in signers if signer in seats.holders]
        if ranks != sorted(set(ranks)):
            self.note(rule, "signers in ranking order, each once", ranks)

    # ---- transactions

    def _check_transactions(self, prepared: Prepared) -> None:
        seen: set[bytes] = set()
        time_ms, rules = prepared.block.header.time_ms, self.ledger.parameters
        for number, item in enumerate(prepared.included):
            fault = shape_fault(item, self.chain_id, rules)
            if fault is not None:
                self.note("6.8 transaction", "a valid transaction", f"number {number}: {fault}")
            if not window_holds(item, time_ms):
                body = item.transaction.body
                window = f"{body.valid_from_ms}..{body.valid_until_ms}"
                self.note("9.2 window", f"a time in {window} (transaction {number})", time_ms)
            self._check_new(item.id, seen, f"transaction {number}")
            kind = TYPE_NAMES[item.transaction.body.type]
            self.kinds[kind] = self.kinds.get(kind, 0) + 1

    def _check_new(self, identity: bytes, seen: set[bytes], what: str) -> None:
        if identity in seen or identity in self.execution.known_ids:
            again = "again in this block" if identity in seen else "again in this chain"
            self.note("9.2 ids at most once (S8)", "a new id", f"{what}, {identity.hex()}, {again}")
        seen.add(identity)

    def _check_removals(self, prepared: Prepared, current: SeatSet, first: bytes) -> None:
        header, seen = prepared.block.header, {item.id for item in prepared.included}
        place = Place(self.chain_id, header.epoch, self.height, header.view, tuple(current.holders), first)
        for number, discard in enumerate(prepared.block.discarded):
            what = f"removal {number}"
            self.compare("6.10 removed id", prepared.removed[number].id, discard.transaction_id)
            self._check_new(discard.transaction_id, seen, what)
            try:
                check_removal(discard, place)
            except Unproven as error:
                self.note("6.10 removal", "proof of f + 1 failed primaries", f"{what}: {error}")

    # ---- the end

    def check_sums(self) -> None:
        """Balances, escrow, energy and members add up to what the records say (PROTOCOL 1.6, S7)."""
        state, totals = self.ledger.state, self.ledger.state.totals.value
        accounts = list(state.accounts.rows.values())
        terms = [contract.terms for contract in state.contracts.rows.values()]
        supply = totals.genesis + totals.issued - totals.redeemed
        self.compare("1.6 conservation", supply, totals.balances + totals.escrow)
        self.compare("1.6 balances", sum(account.balance for account in accounts), totals.balances)
        self.compare("1.6 escrow", sum(t.value + 2 * t.deposit for t in terms), totals.escrow)
        self.compare("1.1 energy", sum(account.energy_wh for account in accounts), totals.energy_wh)
        here = sum(account.left_height is None for account in accounts)
        self.compare("1.7 members", here, totals.members)

    def summary(self) -> Summary:
        """Counts so far; nothing but zeros if not even the genesis holds."""
        if self._stopped and self.height == 0:
            return Summary(0, 0, 0, 0, bytes(32))
        return Summary(self.applied, self.transactions, self.ledger.settled, self.ledger.elections, self.root)


def _shown(value: object) -> str:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, tuple):
        return "(" + ", ".join(map(_shown, value)) + ")"
    return "none" if value is None else str(value)
