"""What people type and read: addresses, money, prices, times, hosts. A wrong one is wrong usage (exit code 2)."""

import re
from datetime import UTC, datetime
from typing import Final

import typer

NANO: Final = 10**9
MICRO: Final = 10**6


def hex_value(text: str, length: int, name: str) -> bytes:
    """``length`` bytes in hex."""
    if re.fullmatch(rf"[0-9a-fA-F]{{{2 * length}}}", text) is None:
        raise typer.BadParameter(f"{name}: expected {2 * length} hex digits, got {text[:80]!r}")
    return bytes.fromhex(text)


def address(text: str, name: str = "address") -> bytes:
    """An address."""
    return hex_value(text, 20, name)


def digest(text: str, name: str = "id") -> bytes:
    """A transaction, trade or genesis id."""
    return hex_value(text, 32, name)


def decimal(text: str, digits: int, name: str) -> int:
    """A decimal number as an integer of its smallest unit, ``digits`` places below one; no float is involved."""
    match = re.fullmatch(rf"([0-9]{{1,10}})(?:\.([0-9]{{1,{digits}}}))?", text)
    if match is None:
        raise typer.BadParameter(
            f"{name}: expected a number with at most {digits} decimals, got {text[:80]!r}"
        )
    return int(match[1] + (match[2] or "").ljust(digits, "0"))


def amount(text: str, name: str = "amount") -> int:
    """Currency with up to nine decimals, in nano-units."""
    return decimal(text, 9, name)


def price(text: str) -> int:
    """Currency per kWh with up to six decimals, in micro-units."""
    return decimal(text, 6, "price")


def _shown(value: int, unit: int, digits: int) -> str:
    sign, size = ("-" if value < 0 else ""), abs(value)
    rest = f"{size % unit:0{digits}d}".rstrip("0").ljust(2, "0")
    return f"{sign}{size // unit}.{rest}"


def money(nano: str | int) -> str:
    """Nano-units as currency."""
    return _shown(int(nano), NANO, 9)


def per_kwh(micro: int) -> str:
    """A price."""
    return _shown(micro, MICRO, 6)


def credits_of(milli: int) -> str:
    """Milli-credits as credits."""
    return f"{'-' if milli < 0 else ''}{abs(milli) // 1000}.{abs(milli) % 1000:03d}"


def utc(time_ms: int) -> str:
    """UTC to the second, with milliseconds where there are any."""
    whole = datetime.fromtimestamp(time_ms // 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    return whole + (f".{time_ms % 1000:03d}" if time_ms % 1000 else "")


def time_ms(text: str, now_ms: int, slot_ms: int, name: str) -> int:
    """Milliseconds since the epoch, ``+N`` slots from the running one, or an ISO 8601 time with its zone."""
    if re.fullmatch(r"[0-9]{1,15}", text):
        return int(text)
    if re.fullmatch(r"\+[0-9]{1,6}", text):
        return (now_ms // slot_ms + int(text[1:])) * slot_ms
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{name}: expected +N slots, ISO 8601 or ms, got {text[:80]!r}") from None
    if moment.tzinfo is None:
        raise typer.BadParameter(f"{name}: {text} has no zone; add Z for UTC")
    delta = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return delta.days * 86_400_000 + delta.seconds * 1_000 + delta.microseconds // 1_000


def endpoint(text: str, name: str) -> tuple[str, int]:
    """HOST:PORT, an IPv6 address in brackets."""
    match = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]]+):([0-9]{1,5})", text)
    if match is None or int(match[2]) > 65_535:
        raise typer.BadParameter(f"{name}: expected HOST:PORT, got {text[:80]!r}")
    return match[1].strip("[]"), int(match[2])
