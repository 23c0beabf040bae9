# mypy: disable-error-code="explicit-override"
"""Crash points while a lost journal is set aside and a new one begins: never a journal that forgot to abstain (6.5)."""

from collections import Counter
from dataclasses import dataclass
from typing import cast

import structlog

from consensus.effects import UNKNOWN_HEIGHT, AbstainRecord
from consensus.encoding import encode
from node.assembly import open_journal
from node.files import SystemFiles
from node.journal import Journal, JournalLost
from node.keystore import KeyPair
from node.ledger import NO_JOURNAL, Ledger
from scripts.simulating.crash_points import IDENTITY, JOURNAL, Progress
from scripts.simulating.crash_points_disk import Call, RecordingDisk, Tree
from scripts.simulating.crash_points_recording import Recording


@dataclass(frozen=True)
class LostResult:
    """Of `enumerate_lost_points`."""

    points: dict[str, int]
    findings: tuple[str, ...]


class _LedgerWithoutBlocks:
    """As much of a ledger as opening a journal asks for."""

    journal_position = NO_JOURNAL


class _Watched(RecordingDisk):
    def __init__(self, tree: Tree, check: "_Check") -> None:
        super().__init__(tree)
        self._check = check

    def _note(self, call: Call) -> None:
        super()._note(call)
        for kind, tree in self.crash_states():
            self._check.judge(kind, tree, len(self.calls))


class _Check:
    def __init__(self, key: KeyPair) -> None:
        self._key = key
        self.points: Counter[str] = Counter()
        self.findings: list[str] = []

    def judge(self, kind: str, tree: Tree, call: int) -> None:
        """After the crash the journal is lost still, or it abstains; opened once more by the node, it abstains."""
        self.points[kind] += 1
        key = self._key.public_key
        try:
            records = Journal.load(SystemFiles(JOURNAL, RecordingDisk(tree)), key).recovered
        except JournalLost:
            records = open_journal(
                SystemFiles(JOURNAL, RecordingDisk(tree)), self._key, ledger_without_blocks()
            ).recovered
        if records[-1:] != (AbstainRecord(UNKNOWN_HEIGHT),):
            self.findings.append(
                f"{kind}, call {call}: a journal of {len(records)} records that does not abstain"
            )


def ledger_without_blocks() -> Ledger:
    """For a home whose ledger says nothing of a journal."""
    return cast(Ledger, _LedgerWithoutBlocks())


def enumerate_lost_points(recording: Recording, progress: Progress = lambda _: None) -> LostResult:
    """A journal damaged in its first record is opened as the node does it, and every call of that is a crash point."""
    key = KeyPair(bytes(range(32)))
    disk = RecordingDisk()
    journal = Journal.create(SystemFiles(JOURNAL, disk), key.public_key, IDENTITY)
    for effect in recording.effects[:8]:
        records = getattr(effect, "records", ())
        if records:
            journal.append(records)
    tree = disk.after_kill()
    [(path, content)] = tree.items()
    damaged = {path: content[:200] + bytes((content[200] ^ 1,)) + content[201:]}
    check = _Check(key)
    with structlog.testing.capture_logs():
        opened = open_journal(SystemFiles(JOURNAL, _Watched(damaged, check)), key, ledger_without_blocks())
    progress(sum(check.points.values()))
    if encode(opened.recovered) != encode((AbstainRecord(UNKNOWN_HEIGHT),)):
        check.findings.append("a damaged journal was opened as a whole one")
    return LostResult(dict(check.points), tuple(check.findings))
