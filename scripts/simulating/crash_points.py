# mypy: disable-error-code="explicit-override"
"""Every crash point of the shipped journal under a real replica's effects (RELIABILITY G7; PROTOCOL 6.5).

A recorded run is repeated on a disk that notes every call. After every call, everything that a crash there may leave
is opened again by the shipped code, and judged: what was durable is there, nothing torn is believed, and what the
recovered node can be led to sign contradicts nothing that left before. Then every call fails once.
"""

import errno
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from consensus.effects import (
    UNKNOWN_HEIGHT,
    AbstainRecord,
    Decide,
    Effect,
    Forget,
    JournalRecord,
    Persist,
    Send,
)
from consensus.errors import ProtocolError
from consensus.messages import ConsensusMessage
from node.files import SystemFiles
from node.journal import Journal, JournalFailed, JournalLost, JournalPosition
from scripts.simulating.crash_points_disk import Call, Failing, RecordingDisk, Tree
from scripts.simulating.crash_points_recording import Recording, record, signer_and_place
from scripts.simulating.crash_points_tempting import Signed, tempt

HOME: Final = Path("/home")
JOURNAL: Final = HOME / "journal"
IDENTITY: Final = bytes(range(16))
SEGMENT_BYTES: Final = 3_000
"""Small, so that segments begin and go many times in a short run."""
VIEWS_BEYOND: Final = 2
"""A recovered node is tempted in so many views above the highest that was signed at its height."""
MAX_FINDINGS: Final = 20
"""One bug shows at thousands of points."""
FAILURES: Final = (
    ("open", errno.EMFILE, (0,)),
    ("write", errno.ENOSPC, (0, 1, 37, 300)),
    ("write", errno.EIO, (0, 100)),
    ("cut", errno.EIO, (0,)),
    ("sync", errno.EIO, (0,)),
    ("rename", errno.EIO, (0,)),
    ("unlink", errno.EIO, (0,)),
    ("sync-directory", errno.EIO, (0,)),
)

Progress = Callable[[int], None]
"""Told the number of points so far, now and then."""


@dataclass(frozen=True)
class CrashResult:
    """Of `enumerate_crash_points`."""

    points: dict[str, int]
    """By kind."""
    temptations: int
    """Distinct recovered nodes that were offered rivals."""
    findings: tuple[str, ...]
    seconds: float
    recorded_calls: int
    recorded_bytes: int

    @property
    def total(self) -> int:
        """All points."""
        return sum(self.points.values())


@dataclass
class _Standing:
    """How far the node had come when the disk made a call."""

    started: int = 0
    """Records handed to the journal, also those whose append is under way."""
    durable: int = 0
    """Records whose append returned, or whose sync was done."""
    created: bool = False
    forgotten: int = 0
    """Records of heights below may be gone."""
    decided: int = 0
    """Height of the ledger."""
    position: JournalPosition | None = None
    """What the ledger says of the journal."""
    left: Signed = field(default_factory=Signed)


class _Judge:
    """Opens what a crash left, and compares."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self.records: list[JournalRecord] = [
            item for effect in recording.effects if isinstance(effect, Persist) for item in effect.records
        ]
        self.ends: list[int] = [0]
        """Numbers of records after which an append ends."""
        for effect in recording.effects:
            if isinstance(effect, Persist):
                self.ends.append(self.ends[-1] + len(effect.records))
        self._views: Counter[int] = Counter()
        for effect in recording.effects:
            if isinstance(effect, Send):
                _, height, view, _, _ = signer_and_place(effect.message)
                self._views[height] = max(self._views[height], view)
        self._tempted: dict[tuple[int, int, int], tuple[ConsensusMessage, ...]] = {}
        self._contradictions: dict[tuple[int, int, int, int], str | None] = {}
        self.points: Counter[str] = Counter()
        self.findings: list[str] = []

    @property
    def temptations(self) -> int:
        return len(self._tempted)

    def judge(self, kind: str, tree: Tree, standing: _Standing, where: str) -> None:
        """One crash point."""
        self.points[kind] += 1
        problem = self._problem(tree, standing)
        if problem is not None and len(self.findings) < MAX_FINDINGS:
            self.findings.append(f"{kind}, {where}: {problem}")

    def _problem(self, tree: Tree, standing: _Standing) -> str | None:
        files = SystemFiles(JOURNAL, RecordingDisk(tree))
        key = self._recording.signer.public_key
        try:
            journal = Journal.load(files, key, at_least=standing.position)
        except JournalLost as error:
            return f"a crash took the journal: {error}" if standing.created else None
        except ProtocolError as error:
            return f"the journal cannot be opened: {error}"
        end = self._end_of(journal.recovered, standing)
        if end is None:
            return (
                f"{len(journal.recovered)} records recovered are not those written: {standing.durable} were "
                f"durable and {standing.started} begun"
            )
        return self._contradiction(journal.recovered, end, standing)

    def _end_of(self, recovered: tuple[JournalRecord, ...], standing: _Standing) -> int | None:
        """Up to which record, in whole appends, the recovered ones go; None if they are not a run of the written."""
        for end in self.ends:
            begin = end - len(recovered)
            if not standing.durable <= end <= standing.started or begin < 0:
                continue
            if any(record.height >= standing.forgotten for record in self.records[:begin]):
                continue
            if tuple(self.records[begin:end]) == recovered:
                return end
        return None

    def _contradiction(
        self, recovered: tuple[JournalRecord, ...], end: int, standing: _Standing
    ) -> str | None:
        """Also with a ledger that lost its last block: what the journal shows is above it forbids to sign."""
        for height in (standing.decided + 1, standing.decided):
            if not 0 < height <= len(self._recording.contexts):
                continue
            place = (len(recovered), end, height)
            if place not in self._tempted:
                views = self._views[height] + 1 + VIEWS_BEYOND
                self._tempted[place] = tempt(self._recording, recovered, height, views)
            compared = (*place, standing.left.count)
            if compared not in self._contradictions:
                self._contradictions[compared] = standing.left.contradicted_by(self._tempted[place])
            problem = self._contradictions[compared]
            if problem is not None:
                return problem
        return None


class _Run:
    """The recorded effects, carried out on the shipped journal over a recording disk."""

    def __init__(self, recording: Recording, disk: RecordingDisk, standing: _Standing) -> None:
        self._recording = recording
        self._files = SystemFiles(JOURNAL, disk)
        self.standing = standing
        self.journal: Journal | None = None

    def carry_out(self) -> None:
        """All of it; `JournalFailed` when the disk fails."""
        journal = Journal.create(self._files, self._recording.signer.public_key, IDENTITY)
        journal.segment_bytes = SEGMENT_BYTES
        self.journal, self.standing.created = journal, True
        for effect in self._recording.effects:
            self._carry_out(journal, effect)

    def _carry_out(self, journal: Journal, effect: Effect) -> None:
        standing = self.standing
        match effect:
            case Persist(records):
                standing.started += len(records)
                journal.append(records)
                standing.durable = standing.started
            case Send(message, _):
                standing.left.add(message)
            case Decide(certified):
                standing.decided = certified.block.header.height
                standing.position = journal.position
            case Forget(height):
                standing.forgotten = height
                journal.forget(height)
            case _:
                pass


class _CrashingDisk(RecordingDisk):
    """A disk after each of whose calls everything that a crash may leave is judged."""

    def __init__(
        self,
        judge: _Judge,
        standing: _Standing,
        progress: Progress,
        tree: Tree | None = None,
        *,
        syncs: bool = True,
    ) -> None:
        super().__init__(tree, syncs=syncs)
        self._judge = judge
        self._standing = standing
        self._progress = progress
        self._recovering = tree is not None

    def _note(self, call: Call) -> None:
        super()._note(call)
        standing = self._standing
        if call.kind == "sync" and standing.created and not self._recovering:
            standing.durable = standing.started
        what = "recovery, call" if self._recovering else "call"
        for kind, tree in self.crash_states():
            self._judge.judge(kind, tree, standing, f"{what} {len(self.calls)}")
        self._progress(sum(self._judge.points.values()))


def enumerate_crash_points(
    seed: int = 1, *, milliseconds: int = 40_000, syncs: bool = True, progress: Progress = lambda _: None
) -> CrashResult:
    """All crash points of the run of ``seed``, and a failure of every call; ``syncs`` False plants a disk that lies."""
    return check_recording(record(seed, milliseconds=milliseconds), syncs=syncs, progress=progress)


def check_recording(
    recording: Recording, *, syncs: bool = True, progress: Progress = lambda _: None
) -> CrashResult:
    """The same on a run recorded before."""
    began = time.monotonic()
    judge, standing = _Judge(recording), _Standing()
    disk = _CrashingDisk(judge, standing, progress, syncs=syncs)
    run = _Run(recording, disk, standing)
    run.carry_out()
    _crash_while_recovering(recording, judge, disk, progress)
    _fail_every_call(recording, judge, disk.counts(), progress)
    return CrashResult(
        points=dict(judge.points),
        temptations=judge.temptations,
        findings=tuple(judge.findings),
        seconds=time.monotonic() - began,
        recorded_calls=len(disk.calls),
        recorded_bytes=sum(len(call.data) for call in disk.calls),
    )


# ---- crashes while a crash is being recovered from


def _crash_while_recovering(
    recording: Recording, judge: _Judge, whole: RecordingDisk, progress: Progress
) -> None:
    """Each append is torn in its middle; then every call of the recovery is a crash point again."""
    writes = [call for call in whole.calls if call.kind == "write" and len(call.data) > 100]
    for number, torn in enumerate(writes[1:], 1):
        failing = Failing("write", _place_among_writes(whole, torn), errno.ENOSPC, len(torn.data) // 2)
        disk, standing = RecordingDisk(failing=failing), _Standing()
        run = _Run(recording, disk, standing)
        try:
            run.carry_out()
        except JournalFailed:
            recovering = _CrashingDisk(judge, standing, progress, disk.after_kill())
            _recover(recording, recovering, standing, judge, f"recovery of append {number}")


def _place_among_writes(disk: RecordingDisk, wanted: Call) -> int:
    return next(n for n, call in enumerate((c for c in disk.calls if c.kind == "write"), 1) if call is wanted)


def _recover(
    recording: Recording, disk: RecordingDisk, standing: _Standing, judge: _Judge, where: str
) -> None:
    try:
        Journal.load(
            SystemFiles(JOURNAL, disk), recording.signer.public_key, at_least=standing.position
        ).close()
    except JournalLost as error:
        if standing.created:
            judge.findings.append(f"{where}: a crash took the journal: {error}")


# ---- failing calls


def _fail_every_call(recording: Recording, judge: _Judge, counts: dict[str, int], progress: Progress) -> None:
    """Each call of each kind fails once: the journal stops for good, and what is left is as after a crash."""
    for kind, code, lengths in FAILURES:
        name = f"{errno.errorcode[code]} of {kind}"
        for number in range(1, counts.get(kind, 0) + 1):
            for landed in lengths:
                _fail_one(recording, judge, Failing(kind, number, code, landed), name)
                progress(sum(judge.points.values()))


def _fail_one(recording: Recording, judge: _Judge, failing: Failing, name: str) -> None:
    disk, standing = RecordingDisk(failing=failing), _Standing()
    run = _Run(recording, disk, standing)
    where = f"call {failing.number}, {failing.landed} bytes landed"
    try:
        run.carry_out()
    except JournalFailed:
        problem = _goes_on(run)
        if problem is not None:
            judge.findings.append(f"{name}, {where}: {problem}")
    else:
        judge.findings.append(f"{name}, {where}: the node went on")
    judge.judge(name, disk.after_kill(), standing, where)
    judge.judge(name, disk.after_power_loss(), standing, where)


def _goes_on(run: _Run) -> str | None:
    """Whether a journal whose disk failed once still takes records."""
    if run.journal is None:
        return None
    try:
        run.journal.append((AbstainRecord(UNKNOWN_HEIGHT),))
    except JournalFailed:
        return None
    return "the journal took a record after its disk had failed"
