"""Where blocks come from: a node's store (also of a running node), an exported file, or a node's HTTP API."""

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import msgpack  # type: ignore[import-untyped]

from node.auditor.encoding import u64

LEDGER_DIRECTORY = "ledger"
REQUEST_TIMEOUT_S = 30
MAX_ANSWER_BYTES = 64 * 1_048_576
"""A genesis of 16 384 members in hex is 5 MiB, a block 4 MiB."""


class Unreadable(Exception):
    """A source that cannot be opened or gives no answer."""


class Source(Protocol):
    """A ledger to audit."""

    name: str

    def genesis(self) -> bytes:
        """Canonical bytes of the genesis."""

    def height(self) -> int:
        """Of the last block."""

    def block(self, height: int) -> bytes | None:
        """Canonical bytes of a certified block, None if it is not there; `Unreadable` if it cannot be read."""

    def receipts(self, height: int) -> list[bytes] | None:
        """The receipts stored for a block, if this source stores any."""

    def head(self) -> tuple[bytes, bytes] | None:
        """Block hash and state root recorded for the last block, if this source records any."""

    def state(self) -> dict[bytes, bytes] | None:
        """The state's entries after the last block, if this source stores any."""

    def close(self) -> None:
        """Release files."""


class StoreSource:
    """A node's RocksDB as it is when it is opened, also beside a node that is running: nothing is written.

    RocksDB's own secondary instances would follow the node, but the binding's crash the process on point reads.
    """

    def __init__(self, path: Path) -> None:
        from rocksdict import AccessType, Options, Rdict

        self.name = str(path)
        options = Options(raw_mode=True)
        options.set_max_open_files(-1)  # files that the node deletes meanwhile stay readable
        try:
            self._rows = Rdict(str(path), options, access_type=AccessType.read_only())
        except Exception as error:
            raise Unreadable(f"cannot open the ledger at {path}: {error}") from error

    def _get(self, key: bytes) -> bytes | None:
        try:
            value: bytes | None = self._rows.get(key)
        except Exception as error:
            raise Unreadable(f"the store cannot read row {key.hex()}: {error}") from error
        return value

    def genesis(self) -> bytes:
        """Row ``mgenesis``."""
        genesis = self._get(b"mgenesis")
        if genesis is None:
            raise Unreadable(f"{self.name} holds no ledger: there is no genesis in it")
        return genesis

    def _head(self) -> tuple[int, bytes, bytes] | None:
        row = self._get(b"mhead")
        if row is None:
            return None
        try:
            height, block_hash, state_root, *_ = msgpack.unpackb(row)
            return int(height), bytes(block_hash), bytes(state_root)
        except (ValueError, TypeError) as error:
            raise Unreadable(f"the store's head cannot be read: {error}") from error

    def height(self) -> int:
        """From row ``mhead``."""
        head = self._head()
        return 0 if head is None else head[0]

    def block(self, height: int) -> bytes | None:
        """Row ``b`` height."""
        return self._get(b"b" + u64(height))

    def receipts(self, height: int) -> list[bytes] | None:
        """Row ``r`` height."""
        row = self._get(b"r" + u64(height))
        try:
            return None if row is None else list(msgpack.unpackb(row))
        except (ValueError, TypeError):
            return []

    def head(self) -> tuple[bytes, bytes] | None:
        """From row ``mhead``."""
        head = self._head()
        return None if head is None else (head[1], head[2])

    def state(self) -> dict[bytes, bytes] | None:
        """Rows ``s`` key."""
        try:
            return dict(self._scan(b"s"))
        except Exception as error:
            raise Unreadable(f"the store cannot read its state: {error}") from error

    def _scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        from rocksdict import ReadOptions

        rows = self._rows.iter(ReadOptions())
        rows.seek(prefix)
        while rows.valid() and rows.key().startswith(prefix):
            yield rows.key()[len(prefix) :], rows.value()
            rows.next()
        rows.status()

    def close(self) -> None:
        """Release files."""
        self._rows.close()


class FileSource:
    """An export: the canonical bytes of the genesis and of every certified block, one after another."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._lock = threading.Lock()  # blocks are read by threads
        try:
            self._file = path.open("rb")
            self._ends = self._find_ends(path.stat().st_size)
        except OSError as error:
            raise Unreadable(f"{path} cannot be read: {error}") from error
        if len(self._ends) < 2:
            self._file.close()
            raise Unreadable(f"{path} is no exported ledger: it is empty")

    def _find_ends(self, size: int) -> list[int]:
        """Where each value ends; what is no value is left as one last piece, for the audit to refuse."""
        unpacker = msgpack.Unpacker(self._file, max_buffer_size=MAX_ANSWER_BYTES)
        ends = [0]
        while ends[-1] < size:
            try:
                unpacker.skip()
            except (ValueError, msgpack.UnpackException):
                return [*ends, size]
            ends.append(unpacker.tell())
        return ends

    def _read(self, number: int) -> bytes:
        start, end = self._ends[number : number + 2]
        with self._lock:
            self._file.seek(start)
            return self._file.read(end - start)

    def genesis(self) -> bytes:
        """The first value."""
        return self._read(0)

    def height(self) -> int:
        """As many blocks as follow."""
        return len(self._ends) - 2

    def block(self, height: int) -> bytes | None:
        """Value number ``height``."""
        return self._read(height) if 0 < height <= self.height() else None

    def receipts(self, height: int) -> list[bytes] | None:
        """None: an export has only blocks."""
        del height
        return None

    def head(self) -> tuple[bytes, bytes] | None:
        """None: an export has only blocks."""
        return None

    def state(self) -> dict[bytes, bytes] | None:
        """None: an export has only blocks."""
        return None

    def close(self) -> None:
        """Release the file."""
        self._file.close()


class NodeSource:
    """A node's HTTP API: GET /v1/parameters and /v1/blocks/{height}/raw."""

    def __init__(self, url: str) -> None:
        self.name = url
        self._url = url.rstrip("/")
        self._parameters = self._ask_parameters()

    def _ask_parameters(self) -> tuple[int, bytes]:
        try:
            answer = json.loads(self._ask("/v1/parameters") or b"{}")
            return int(answer["height"]), bytes.fromhex(answer["genesis"])
        except (ValueError, KeyError, TypeError) as error:
            raise Unreadable(f"{self._url} does not answer like a node: {error!r}") from error

    def _ask(self, path: str) -> bytes | None:
        # The scheme was checked by `open_source`: http or https.
        try:
            with urllib.request.urlopen(self._url + path, timeout=REQUEST_TIMEOUT_S) as answer:  # noqa: S310
                data: bytes = answer.read(MAX_ANSWER_BYTES)
                return data
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise Unreadable(f"{self._url}{path}: {error}") from error
        except (OSError, ValueError) as error:
            raise Unreadable(f"{self._url}{path}: {error}") from error

    def genesis(self) -> bytes:
        """Of the first answer."""
        return self._parameters[1]

    def height(self) -> int:
        """At the first answer; blocks decided since are not asked for."""
        return self._parameters[0]

    def block(self, height: int) -> bytes | None:
        """GET /v1/blocks/{height}/raw."""
        return self._ask(f"/v1/blocks/{height}/raw")

    def receipts(self, height: int) -> list[bytes] | None:
        """None: receipts are compared by their root."""
        del height
        return None

    def head(self) -> tuple[bytes, bytes] | None:
        """None: the last block's roots are in no header yet."""
        return None

    def state(self) -> dict[bytes, bytes] | None:
        """None: the state is compared by its root."""
        return None

    def close(self) -> None:
        """Nothing is open."""


def open_source(place: str) -> Source:
    """The ledger at a URL, in a home, in a store's directory or in an exported file; `Unreadable` if there is none."""
    if place.startswith(("http://", "https://")):
        return NodeSource(place)
    path = Path(place)
    if path.is_file():
        return FileSource(path)
    for candidate in (path / LEDGER_DIRECTORY, path):
        if (candidate / "CURRENT").is_file():
            return StoreSource(candidate)
    raise Unreadable(f"{place} is neither a node's home, nor an exported ledger, nor a URL")
