"""Make node/data/households.csv: one sunny day of load and roof-solar generation of 24 homes.

Load is the German standard household profile H25 (BDEW, 2025 revision), scaled to each home's annual consumption and
made uneven, as the profile is the mean of very many homes and no home looks like it. Generation is worked out from the
hourly radiation and temperature of a test reference year (DWD, 2010) for Potsdam on each home's roof.

Everything is in whole watt-hours a slot of 15 minutes; slot 0 starts at 00:00 UTC. The same command gives the same
bytes.
Needs the `profiles` extra: pip install --require-hashes -r requirements-profiles.lock
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import random
import sys
from dataclasses import dataclass
from pathlib import Path

import demandlib
import pandas as pd
import pvlib
from demandlib import bdew

SEED = 2025
HOMES = 24
SLOTS = 96
DAY = "2025-06-18"  # a Wednesday without a holiday, clear for most of the day in the reference year
TIME_ZONE = "Europe/Berlin"  # the load profile is on local clocks, the weather on CET all year
LATITUDE, LONGITUDE = 52.38, 13.07  # Potsdam, the reference station of the region
REGION = 4  # north-eastern German lowland
ALBEDO = 0.2
TEMPERATURE_COEFFICIENT = -0.0035  # per kelvin: crystalline silicon
PERFORMANCE = 0.86  # inverter, cables, mismatch and dirt together

DATA = Path(__file__).resolve().parents[2] / "node" / "data"
TARGET = DATA / "households.csv"
ORIGIN = DATA / "README.md"


@dataclass(frozen=True)
class Home:
    """What tells one home from another."""

    annual_kwh: int
    roof_kw: float  # peak power of the modules, 0 for none
    tilt: int  # degrees from the horizontal
    azimuth: int  # degrees from north, clockwise
    east_west: bool  # half of the modules on the opposite side of the ridge


def draw_home(source: random.Random, number: int) -> Home:
    """A home of the sample; every other one has a roof, so that any first few homes can trade with each other."""
    annual_kwh = 2000 + 100 * int(41 * source.random())
    has_roof = number % 2 == 0
    east_west = source.random() < 0.2
    roof_kw = round(3.0 + 0.5 * int(11 * source.random()), 1)
    tilt = 20 + 5 * int(6 * source.random())
    azimuth = 90 if east_west else 120 + 10 * int(13 * source.random())
    return Home(annual_kwh, roof_kw if has_roof else 0.0, tilt, azimuth, east_west)


def uneven(source: random.Random, base_wh: list[float]) -> list[float]:
    """Turn a mean profile into one home's day of the same energy: a slow drift, and appliances that run or do not.

    Only `Random.random` is used: it is the one method whose sequence Python promises to keep.
    """
    shifted_by = int(7 * source.random()) - 3  # this home's clock: up to three slots earlier or later
    mean_wh = sum(base_wh) / SLOTS
    drift, shaped = 0.0, []
    for slot in range(SLOTS):
        bell = (
            sum(source.random() for _ in range(6)) - 3.0
        )  # near enough to normal, with standard deviation 0.71
        drift = 0.8 * drift + 0.25 * bell
        level = base_wh[(slot - shifted_by) % SLOTS] * max(0.25, 1.0 + drift)
        shaped.append(0.55 * level + 0.25 * mean_wh)
    # Kettle, oven, washing machine: two to six runs a day, of one to six slots, where the profile says people are up.
    for _ in range(2 + int(5 * source.random())):
        weights = [value * value for value in base_wh]
        pick = source.random() * sum(weights)
        start = 0
        while pick > weights[start] and start < SLOTS - 1:
            pick -= weights[start]
            start += 1
        length = 1 + int(6 * source.random())
        power_wh = 80.0 + 320.0 * source.random()
        for slot in range(start, min(SLOTS, start + length)):
            shaped[slot] += power_wh
    scale = sum(base_wh) / sum(shaped)
    return [value * scale for value in shaped]


def standard_load_wh() -> list[float]:
    """The household profile H25 of the day for 1 000 kWh a year, in Wh a slot."""
    local = pd.date_range(DAY, periods=SLOTS, freq="15min", tz="UTC").tz_convert(TIME_ZONE)
    # Two local dates share the UTC day, so the profile is asked for both and read at the wanted instants.
    clock = pd.date_range(local[0].date(), periods=2 * SLOTS, freq="15min")
    by_clock = bdew.H25(clock)  # kW for a consumption of 1 GWh a year, so W for 1 000 kWh
    return [float(by_clock[instant.tz_localize(None)]) / 4 for instant in local]


def weather() -> pd.DataFrame:
    """Quarter-hourly radiation (W/m2) and temperature of the day, from the reference year's hourly means."""
    name = f"TRY2010_{REGION:02d}_Jahr.dat"
    path = Path(demandlib.__file__).parent / "vdi" / "resources_weather" / name
    _, rows = path.read_text(encoding="latin-1").split("***\n", 1)
    table = pd.DataFrame([row.split() for row in rows.splitlines() if row.strip()])
    day = pd.Timestamp(DAY)
    # Columns in the order of the file's head: 2 month, 3 day, 4 hour, 8 temperature, 13 direct and 14 diffuse
    # radiation, both on the horizontal. Hour 1 is the mean of 00:00 to 01:00 CET, an hour ahead of UTC.
    ends = pd.to_datetime(
        {"year": day.year, "month": table[2].astype(int), "day": table[3].astype(int)}
    ) + pd.to_timedelta(table[4].astype(int) - 2, unit="h")
    hourly = pd.DataFrame(
        {
            "temperature": table[8].astype(float).to_numpy(),
            "direct": table[13].astype(float).to_numpy(),
            "diffuse": table[14].astype(float).to_numpy(),
        },
        index=pd.DatetimeIndex(ends, tz="UTC"),
    )
    slots = pd.date_range(DAY, periods=SLOTS, freq="15min", tz="UTC")
    middles = slots + pd.Timedelta("7min30s")
    sun = pvlib.solarposition.ephemeris(middles, LATITUDE, LONGITUDE)
    # An hour's energy goes to its quarters as a clear sky would share it, so that the day has no steps.
    clear = pvlib.clearsky.haurwitz(sun["apparent_zenith"])["ghi"].to_numpy()
    share = pd.Series(clear, index=slots)
    hour_mean = share.groupby(slots.floor("h")).transform("mean")
    share = (share / hour_mean).where(hour_mean > 0, 0.0)
    fine = hourly.reindex(slots.floor("h"))
    fine.index = slots
    return pd.DataFrame(
        {
            "temperature": fine["temperature"],
            "direct": fine["direct"] * share,
            "diffuse": fine["diffuse"] * share,
            "zenith": sun["apparent_zenith"].to_numpy(),
            "azimuth": sun["azimuth"].to_numpy(),
        }
    )


def solar_wh(sky: pd.DataFrame, home: Home) -> list[float]:
    """What a home's roof generates in each slot, in Wh."""
    total = [0.0] * SLOTS
    if home.roof_kw == 0:
        return total
    sides = [home.azimuth, (home.azimuth + 180) % 360] if home.east_west else [home.azimuth]
    # Near the horizon the beam would be a small number over a smaller one: below 3 degrees there is only diffuse light.
    cosine = sky["zenith"].map(pvlib.tools.cosd)
    beam = (sky["direct"] / cosine).where(sky["zenith"] < 87, 0.0)
    for side in sides:
        on_roof = pvlib.irradiance.get_total_irradiance(
            home.tilt,
            side,
            sky["zenith"],
            sky["azimuth"],
            beam,
            sky["direct"] + sky["diffuse"],
            sky["diffuse"],
            albedo=ALBEDO,
            model="isotropic",
        )["poa_global"].clip(lower=0)
        cell = pvlib.temperature.faiman(on_roof, sky["temperature"], wind_speed=2.0)
        watts = pvlib.pvsystem.pvwatts_dc(
            on_roof, cell, 1000 * home.roof_kw / len(sides), TEMPERATURE_COEFFICIENT
        )
        for slot, value in enumerate(watts):
            total[slot] += max(0.0, float(value) * PERFORMANCE / 4)
    return total


def make() -> tuple[str, list[Home]]:
    """The table as text, and the homes it is of."""
    standard, sky = standard_load_wh(), weather()
    lines, homes = ["home,slot,load_wh,solar_wh"], []
    for number in range(HOMES):
        source = random.Random(SEED * 1000 + number)  # a home stays the same when another is added
        home = draw_home(source, number)
        load = uneven(source, [value * home.annual_kwh / 1000 for value in standard])
        solar = solar_wh(sky, home)
        lines += [f"{number},{slot},{round(load[slot])},{round(solar[slot])}" for slot in range(SLOTS)]
        homes.append(home)
    return "\n".join(lines) + "\n", homes


def origin(text: str, homes: list[Home]) -> str:
    """The page that stands beside the table and says where it comes from."""
    rows = [[int(field) for field in line.split(",")] for line in text.splitlines()[1:]]
    versions = ", ".join(
        f"{name} {importlib.metadata.version(name)}" for name in ("demandlib", "numpy", "pandas", "pvlib")
    )
    facing = {home: "east and west" if home.east_west else f"{home.azimuth} deg" for home in homes}
    table = []
    for number, home in enumerate(homes):
        load = sum(row[2] for row in rows if row[0] == number) / 1000
        solar = sum(row[3] for row in rows if row[0] == number) / 1000
        roof = f"{home.roof_kw} kW, {home.tilt} deg, {facing[home]}" if home.roof_kw else "none"
        table.append(f"| {number} | {home.annual_kwh} | {roof} | {load:.1f} | {solar:.1f} |")
    load = sum(row[2] for row in rows) / 1000
    solar = sum(row[3] for row in rows) / 1000
    return f"""# households.csv

One day of {HOMES} homes, made by `scripts/profiles/make_households.py`; do not edit either file by hand.

Columns: `home` 0..{HOMES - 1}; `slot` 0..{SLOTS - 1}, 15 minutes each, slot 0 from 00:00 UTC; `load_wh` what the home
uses and `solar_wh` what its roof generates in the slot, both in whole Wh. A home's net is their difference. The homes
are invented, but the shapes are those of the sources.

- Day: {DAY} (load: a working day in June; weather: the same day of the reference year). Seed: {SEED}.
- Load: standard load profile H25 (households), BDEW 2025, as packaged in demandlib (MIT). One home's day is the
  profile scaled to its annual use, shifted by up to 45 minutes, with seeded drift and appliance runs; its energy is
  the profile's.
- Weather: test reference year 2010, region {REGION} (Potsdam), Deutscher Wetterdienst, as packaged in demandlib; the
  source to name is "Deutscher Wetterdienst". Hourly means are shared out over the quarters as a clear sky would be.
- Generation: sun position, isotropic sky and module model of pvlib (BSD-3-Clause); {PERFORMANCE:.0%} of it remains
  after inverter, cables and dirt.
- Licence of this table: as the project's; the sources' data are named above.
- Versions: {versions}.
- SHA-256 of the table: `{hashlib.sha256(text.encode()).hexdigest()}`

Made and checked again with

    python -m venv /tmp/profiles && /tmp/profiles/bin/pip install --require-hashes -r requirements-profiles.lock
    /tmp/profiles/bin/python scripts/profiles/make_households.py [--check]

All homes together use {load:.0f} kWh and generate {solar:.0f} kWh.

| home | kWh a year | roof: power, tilt, facing | load, kWh | solar, kWh |
|---|---|---|---|---|
{chr(10).join(table)}
"""


def main() -> int:
    """Write the table and its page, or compare them with what is there."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument(
        "--check", action="store_true", help="write nothing; end with 1 if the table would differ"
    )
    check = parser.parse_args().check
    text, homes = make()
    page = origin(text, homes)
    if not check:
        TARGET.parent.mkdir(parents=True, exist_ok=True)
        TARGET.write_text(text, encoding="ascii", newline="\n")
        ORIGIN.write_text(page, encoding="utf-8", newline="\n")
        return 0
    stale = [
        path.name
        for path, wanted in ((TARGET, text), (ORIGIN, page))
        if not path.exists() or path.read_bytes() != wanted.encode()
    ]
    if stale:
        print(f"make_households: would write otherwise: {', '.join(stale)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
