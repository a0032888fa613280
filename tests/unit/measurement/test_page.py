"""The page of a bench: self-contained, small, safe."""

import re

import pytest

from distkeras.measurement.network import between_cpus
from distkeras.measurement.page import render
from distkeras.measurement.published import CURVES
from distkeras.measurement.simulation import simulate

TWO = {"real": [10.0], "one_batch": [9.0], "bare": [9.0], "apart": [4.0], "large": [8.0], "alone": [5.0]}


@pytest.fixture
def result(make_result_of):
    return make_result_of(TWO, workers=[1, 2], batch_sizes=[32, 64])


def test_it_says_what_was_measured(result):
    page = render(result)
    assert "Communication-bound:" in page
    assert page.count("<figure") == 3
    for text in (
        "scaling efficiency",
        "2 workers, batch 64, float32",
        "between workers",
        "builder: mlp",
        "a CPU",
    ):
        assert text in page


def test_one_setting_needs_no_chart_of_settings(make_result_of):
    page = render(make_result_of({"real": [10.0], "one_batch": [9.0], "bare": [9.0], "large": [15.0]}))
    assert page.count("<figure") == 2
    assert "between workers" not in page


def test_it_asks_nothing_of_the_network_and_is_small(result):
    page = render(result)
    assert "<script" not in page
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", page)
    assert len(page.encode()) < 200_000


def test_a_long_matrix_stays_below_a_megabyte(make_result_of):
    workers = [1, 2, 4, 8, 16]
    sizes = [16 * 2**index for index in range(20)]
    result = make_result_of(
        {name: values * 20 for name, values in TWO.items()}, workers=workers, batch_sizes=sizes
    )
    page = render(result)
    assert len(page.encode()) < 1_000_000
    assert "Examples per second, the first 24 of 100 settings" in page


def test_text_is_text(result):
    result["name"] = "<script>alert(1)</script>"
    result["machine"]["cpu"] = "<b>fast</b>"
    page = render(result)
    assert "<script" not in page
    assert "<b>fast" not in page


def test_what_makes_the_numbers_doubtful_is_said(make_result_of):
    result = make_result_of({name: [10.0, 20.0] for name in ("real", "one_batch", "bare")})
    assert "the passes of one trial differ by 67%" in render(result)


def test_a_simulation_is_drawn_beside_what_others_published(result):
    assert "Simulated" not in render(result)
    result["simulation"] = simulate(result, between_cpus(1e9 / 8, 1e-4), [8, 64, 4096])
    page = render(result)
    assert page.count("<figure") == 4
    section = page[page.index('id="simulated"') : page.index('id="again"')]
    assert "This is a model, nothing of it was measured" in section
    assert result["simulation"]["knob"].partition("'")[0] in section
    for curve in CURVES:
        assert curve.model in section
        for point in curve.points:
            assert f'href="{point.source.url}"' in section
    for text in ("this config, modelled", "this config, measured here", "4,096"):
        assert text in section
    # Links are for the reader; nothing is fetched.
    assert not re.search(r"""src=["']?(https?:)?//""", page)
    assert len(page.encode()) < 200_000


def test_one_worker_has_no_measured_efficiency_to_draw(make_result_of):
    result = make_result_of({"real": [10.0], "one_batch": [9.0], "bare": [9.0], "large": [15.0]})
    result["simulation"] = simulate(result, between_cpus(1e9 / 8, 1e-4), [8])
    page = render(result)
    assert "this config, modelled" in page
    assert "this config, measured here" not in page


def test_every_published_model_has_a_marker_of_its_own():
    from distkeras.measurement.charts import MARKERS

    assert len({curve.model for curve in CURVES}) <= len(MARKERS)
