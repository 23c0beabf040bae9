"""Figures of scripts/load that are computed, not read."""

from scripts.loading.main import percentile, signature_ceiling


def test_the_ceiling_is_what_the_cores_could_check() -> None:
    set_up = {"cores": 2, "delegates": 4, "signature_check_us": 125.0}
    assert signature_ceiling(set_up, 500.0) == {
        "signature_ceiling_per_s": 2_000.0,
        "share_of_signature_ceiling": 0.25,
    }


def test_percentiles_lie_in_the_values() -> None:
    values = [float(value) for value in range(100)]
    assert percentile(values, 50) == 50.0
    assert percentile(values, 100) == 99.0
    assert percentile([3.0], 99) == 3.0
