"""Single bits flipped in every durable file of a node (RELIABILITY G8, fault 6; PROTOCOL 6.5).

Each flip ends in one of these: refused with a text that says what is wrong and what to do; a lost journal, which
abstains; repaired from what peers have; without effect on anything that is read. A silent wrong answer is a finding,
and so is an error that is not ours.
"""

import itertools
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from consensus.block import certified_block_codec
from consensus.ed25519 import Ed25519Verifier
from consensus.effects import UNKNOWN_HEIGHT, AbstainRecord
from consensus.encoding import Codec
from consensus.errors import InvalidMessage, MalformedInput
from network.address_book import AddressBook
from network.wire import AddressRecord
from node.assembly import ADDRESSES_FILE, JOURNAL_DIRECTORY, open_journal
from node.config import CONFIG_FILE, load_config
from node.errors import NodeError
from node.files import SystemFiles
from node.formation import load_formed
from node.formation_store import FormationStore
from node.journal import Journal, JournalLost
from node.keystore import NODE_KEY_FILE, read_key
from scripts.simulating.bit_flips_home import Home, formation_files, make_home, rows_of
from scripts.simulating.crash_points_chain import apply_block, open_ledger
from scripts.simulating.crash_points_disk import RecordingDisk
from scripts.simulating.crash_points_lost import ledger_without_blocks
from scripts.simulating.crash_points_recording import Recording, record
from scripts.simulating.crash_points_tempting import tempt

REFUSED: Final = "refused"
ABSTAINS: Final = "journal lost, abstains"
REPAIRED: Final = "repaired from peers"
HARMLESS: Final = "without effect"
OTHER_SETTING: Final = "another setting"
"""Only in config.toml, which people write and which holds no rule of the chain."""
SILENT: Final = "SILENT"
FOREIGN: Final = "FOREIGN ERROR"

JOURNAL_FLIPS: Final = 16_000
STORE_FLIPS: Final = 1_000
OTHER_FLIPS: Final = 1_500
"""Of each other file."""
OPENED_EVERY: Final = 16
"""Of the journals found to be lost, so many are also opened as the node does it, which writes a new one."""
MAX_FINDINGS: Final = 20
REMEDIES: Final = (
    "move",
    "restore",
    "mend",
    "run `",
    "see ",
    "validate-config",
    "passphrase",
    "use another home",
)
"""One of these has to stand in a refusal: it says what to do."""


@dataclass(frozen=True)
class FlipResult:
    """Of `flip_bits`."""

    outcomes: dict[str, dict[str, int]]
    """File, outcome, count."""
    findings: tuple[str, ...]
    seconds: float

    @property
    def total(self) -> int:
        """All flips."""
        return sum(sum(counts.values()) for counts in self.outcomes.values())

    def table(self) -> str:
        """Files down, outcomes across."""
        columns = (REFUSED, ABSTAINS, REPAIRED, HARMLESS, OTHER_SETTING, SILENT, FOREIGN)
        lines = ["| file | flips | " + " | ".join(columns) + " |", "|---" * (2 + len(columns)) + "|"]
        for name, counts in self.outcomes.items():
            cells = (str(counts.get(column, 0)) for column in columns)
            lines.append(f"| {name} | {sum(counts.values())} | " + " | ".join(cells) + " |")
        return "\n".join(lines)


@dataclass(frozen=True)
class Flips:
    """How many of each kind; a file smaller than that is flipped bit by bit, all of it."""

    journal: int = JOURNAL_FLIPS
    store: int = STORE_FLIPS
    other: int = OTHER_FLIPS


Verdict = tuple[str, str]
"""Outcome, and what was said."""


class _Campaign:
    def __init__(self, home: Home, seed: int, progress: Callable[[int], None]) -> None:
        self.home = home
        self._seed = seed
        self._progress = progress
        self.outcomes: dict[str, Counter[str]] = {}
        self.findings: list[str] = []

    def flip(self, name: str, content: bytes, count: int, judge: Callable[[bytes], Verdict]) -> None:
        """Flip ``count`` different bits of ``content``, or all, one after the other."""
        size = len(content) * 8
        rng = random.Random(f"{self._seed}/{name}")
        bits = range(size) if count >= size else sorted(rng.sample(range(size), count))
        tally = self.outcomes.setdefault(name, Counter())
        for bit in bits:
            flipped = bytearray(content)
            flipped[bit // 8] ^= 1 << (bit % 8)
            outcome, said = self._judge(judge, bytes(flipped))
            tally[outcome] += 1
            if outcome in (SILENT, FOREIGN) and len(self.findings) < MAX_FINDINGS:
                self.findings.append(f"{name}, bit {bit}: {outcome}: {said}")
            self._progress(sum(sum(counts.values()) for counts in self.outcomes.values()))

    def result(self, seconds: float) -> FlipResult:
        """What came of it."""
        outcomes = {name: dict(tally) for name, tally in self.outcomes.items()}
        return FlipResult(outcomes, tuple(self.findings), seconds)

    @staticmethod
    def _judge(judge: Callable[[bytes], Verdict], flipped: bytes) -> Verdict:
        try:
            return judge(flipped)
        except NodeError as error:
            says_what_to_do = any(remedy in str(error) for remedy in REMEDIES)
            return (REFUSED, str(error)) if says_what_to_do else (FOREIGN, f"no remedy named: {error}")
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            return FOREIGN, f"{type(error).__name__}: {error}"


def flip_bits(
    seed: int = 1, *, flips: Flips | None = None, progress: Callable[[int], None] = lambda _: None
) -> FlipResult:
    """The whole campaign."""
    began = time.monotonic()
    counts = flips or Flips()
    with tempfile.TemporaryDirectory(prefix="cgpbft-flips-") as place, structlog.testing.capture_logs():
        recording = record(seed, milliseconds=40_000)
        home = make_home(Path(place) / "home", recording)
        campaign = _Campaign(home, seed, progress)
        _flip_journal(campaign, recording, counts.journal)
        _flip_settings(campaign, counts.other)
        _flip_formation(campaign, counts.other)
        _flip_addresses(campaign, counts.other)
        _flip_store(campaign, counts.store)
    return campaign.result(time.monotonic() - began)


def flip_journal(home: Home, recording: Recording, count: int) -> FlipResult:
    """The journal alone."""
    campaign = _Campaign(home, 1, lambda _: None)
    with structlog.testing.capture_logs():
        _flip_journal(campaign, recording, count)
    return campaign.result(0.0)


def flip_settings(home: Home, count: int) -> FlipResult:
    """Key and configuration alone."""
    campaign = _Campaign(home, 1, lambda _: None)
    _flip_settings(campaign, count)
    return campaign.result(0.0)


# ---- the journal


def _flip_journal(campaign: _Campaign, recording: Recording, count: int) -> None:
    """As the node opens it: whole, or abstaining; and what an abstaining node is led to sign is nothing."""
    home = campaign.home
    directory = home.path / JOURNAL_DIRECTORY
    abstaining = (AbstainRecord(UNKNOWN_HEIGHT),)
    signed = [m for height in range(1, 4) for m in tempt(recording, abstaining, height, views=3)]
    if signed:
        campaign.findings.append(f"an abstaining node signs {signed[0]}")

    turns = itertools.count()

    def judge_in(path: Path) -> Callable[[bytes], Verdict]:
        def judge(flipped: bytes) -> Verdict:
            tree = {**home.journal, path: flipped}
            try:
                recovered = Journal.load(
                    SystemFiles(directory, RecordingDisk(tree)), home.key.public_key
                ).recovered
            except JournalLost:
                if next(turns) % OPENED_EVERY:
                    return ABSTAINS, ""
                files = SystemFiles(directory, RecordingDisk(tree))
                recovered = open_journal(files, home.key, ledger_without_blocks()).recovered
                return (ABSTAINS if recovered == abstaining else SILENT), ""
            if recovered == home.records:
                return HARMLESS, ""
            return SILENT, f"{len(recovered)} of {len(home.records)} records"

        return judge

    size = sum(map(len, home.journal.values()))
    for path, content in home.journal.items():
        campaign.flip(f"journal/{path.name}", content, count * len(content) // size, judge_in(path))


# ---- key, configuration, formation, addresses


def _flip_settings(campaign: _Campaign, count: int) -> None:
    home = campaign.home
    key_path, config_path = home.path / NODE_KEY_FILE, home.path / CONFIG_FILE
    config = load_config(home.path)

    def judge_key(flipped: bytes) -> Verdict:
        key_path.write_bytes(flipped)
        found = read_key(key_path)
        return (HARMLESS, "") if found.seed == home.key.seed else (SILENT, "another key")

    def judge_config(flipped: bytes) -> Verdict:
        config_path.write_bytes(flipped)
        return (HARMLESS, "") if load_config(home.path) == config else (OTHER_SETTING, "")

    for path, judge in ((key_path, judge_key), (config_path, judge_config)):
        content = path.read_bytes()
        campaign.flip(path.name, content, count, judge)
        path.write_bytes(content)


def _flip_formation(campaign: _Campaign, count: int) -> None:
    """The chain of the home is the one that formed, or none; what is not read any more cannot matter."""
    home, verifier = campaign.home, Ed25519Verifier()
    formed = load_formed(home.path, home.key.public_key, verifier)

    def judge_in(path: Path) -> Callable[[bytes], Verdict]:
        def judge(flipped: bytes) -> Verdict:
            path.write_bytes(flipped)
            if load_formed(home.path, home.key.public_key, verifier) != formed:
                return SILENT, "another chain"
            store = FormationStore(home.path)
            if store.announced() is None or store.registration() is None:
                return SILENT, "a file is taken for missing"
            return HARMLESS, ""

        return judge

    for path in formation_files(home):
        content = path.read_bytes()
        campaign.flip(f"formation/{path.name}", content, count, judge_in(path))
        path.write_bytes(content)


def _flip_addresses(campaign: _Campaign, count: int) -> None:
    """Records prove themselves: those that do not are left out, and asked for again."""
    home = campaign.home
    codec: Codec[tuple[AddressRecord, ...]] = Codec(tuple[AddressRecord, ...], 1_048_576)

    def judge(flipped: bytes) -> Verdict:
        book = AddressBook(Ed25519Verifier(), lambda _: True)
        try:
            for item in codec.decode(flipped):
                book.add(item, 0)
        except (MalformedInput, InvalidMessage):
            pass
        kept = set(book.records())
        if not kept <= set(home.addresses):
            return SILENT, "an address that nobody signed"
        return (HARMLESS if len(kept) == len(home.addresses) else REPAIRED), ""

    content = (home.path / ADDRESSES_FILE).read_bytes()
    campaign.flip(ADDRESSES_FILE, content, count, judge)


# ---- the store


def _flip_store(campaign: _Campaign, count: int) -> None:
    """Opened and read to the last row; blocks that are gone are taken from a peer, and all rows compared."""
    home = campaign.home
    files = sorted(path for path in home.ledger.iterdir() if path.is_file())
    scratch = home.path / "scratch"

    def judge_in(path: Path) -> Callable[[bytes], Verdict]:
        def judge(flipped: bytes) -> Verdict:
            shutil.rmtree(scratch, ignore_errors=True)
            scratch.mkdir()
            for other in files:
                if other != path:
                    shutil.copyfile(other, scratch / other.name)
            (scratch / path.name).write_bytes(flipped)
            return judge_store(home, scratch)

        return judge

    for path in files:
        share = count // len(files)
        name = path.suffix.lstrip(".") or path.name.split("-")[0]
        campaign.flip(f"ledger/{name}", path.read_bytes(), share, judge_in(path))


def judge_store(home: Home, directory: Path) -> Verdict:
    """What becomes of a store's directory in the hands of a node with honest peers."""
    ledger = open_ledger(directory, home.genesis)
    try:
        height, rows = ledger.height, rows_of(ledger.store)
        if height >= len(home.rows) or rows != home.rows[height]:
            return SILENT, f"other rows at height {height}"
        if height == len(home.blocks):
            return HARMLESS, ""
        for data in home.blocks[height:]:
            certified = certified_block_codec.decode(data)
            ledger.check_certified(certified)
            apply_block(ledger, certified)
        if rows_of(ledger.store) != home.rows[-1]:
            return SILENT, f"other rows after blocks {height + 1} and later were fetched"
        return REPAIRED, f"from height {height}"
    finally:
        ledger.store.close()
