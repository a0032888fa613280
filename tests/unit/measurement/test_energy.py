"""Counters of energy: packages are summed, parts of them are not, and a counter that began again is followed."""

from pathlib import Path

from distkeras.measurement.energy import EnergyMeter


def count(folder: Path, domain: str, name: str, microjoules: int, most: int = 1_000_000_000) -> None:
    """Writes a counter as Linux shows it."""
    (folder / domain).mkdir(exist_ok=True)
    for file, text in (("name", name), ("energy_uj", microjoules), ("max_energy_range_uj", most)):
        (folder / domain / file).write_text(f"{text}\n")


def test_packages_are_summed_and_their_parts_are_not_counted_twice(tmp_path: Path) -> None:
    count(tmp_path, "intel-rapl:0", "package-0", 5_000_000)
    count(tmp_path, "intel-rapl:0:0", "core", 3_000_000)
    count(tmp_path, "intel-rapl:1", "package-1", 1_000_000)
    count(tmp_path, "intel-rapl:2", "psys", 9_000_000)
    meter = EnergyMeter(tmp_path)
    count(tmp_path, "intel-rapl:0", "package-0", 7_500_000)
    count(tmp_path, "intel-rapl:0:0", "core", 4_000_000)
    count(tmp_path, "intel-rapl:1", "package-1", 1_250_000)
    count(tmp_path, "intel-rapl:2", "psys", 20_000_000)
    assert meter.read() == 2.75


def test_a_counter_that_began_again_goes_on(tmp_path: Path) -> None:
    count(tmp_path, "intel-rapl:0", "package-0", 999_000_000)
    meter = EnergyMeter(tmp_path)
    count(tmp_path, "intel-rapl:0", "package-0", 1_000_000)
    assert meter.read() == 2.0


def test_where_nothing_counts_there_is_no_number(tmp_path: Path) -> None:
    assert EnergyMeter(tmp_path / "none").read() is None
    count(tmp_path, "intel-rapl:0", "package-0", 5)
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("unreadable")
    assert EnergyMeter(tmp_path).read() is None
