"""The page holds what the run holds, safely, within its size, whatever is missing or hostile."""

import base64
import re
import sys

import pytest

from distkeras.errors import ConfigError, MissingDependencyError, ResourceError
from distkeras.observability.metrics_file import metric_row
from distkeras.observability.report import write_report
from distkeras.observability.report.charts import curves, regression_charts, speed_charts
from distkeras.observability.report.drawing import shortened, thinned
from distkeras.observability.report.facts import Facts
from distkeras.observability.report.page import (
    class_rows,
    epoch_table,
    fenced,
    markdown_text,
    render_html,
    render_markdown,
    worst_examples,
)
from distkeras.observability.run_directory import RunDirectory

HOSTILE = "<script>alert(1)</script>\"'|`$x_{\u0007"
PICTURE = "data:image/png;base64," + base64.b64encode(b"png").decode()
THROUGHPUT = {
    "examples_per_second": 10.0,
    "input_wait_ratio": 0.1,
    "step_milliseconds": 2.0,
    "memory_bytes": 2**28,
}


def _rows(epochs=3, metrics=("loss",)):
    rows = []
    for epoch in range(epochs):
        values = {name: 1.0 / (epoch + 1) for name in metrics}
        step = (epoch + 1) * 10
        rows.append(metric_row(step - 5, epoch, "train", values, time=0.0, throughput=THROUGHPUT))
        rows.append(metric_row(step, epoch, "train", values, time=0.0, throughput=THROUGHPUT))
        both = values | {f"val_{name}": value for name, value in values.items()}
        rows.append(metric_row(step, epoch, "epoch", both, time=0.0))
    return rows


def _classification(names):
    size = len(names)
    return {
        "split": "test",
        "num_examples": size,
        "metrics": {"test_accuracy": 0.5},
        "classification": {
            "class_names": names,
            "confusion_matrix": [[int(row == column) for column in range(size)] for row in range(size)],
            "per_class": [
                {"name": name, "precision": 1.0, "recall": 0.5, "f1": index / size, "support": 3}
                for index, name in enumerate(names)
            ],
        },
        "regression": None,
        "worst": [{"place": HOSTILE, "target": 0, "prediction": 1, "loss": 2.0, "picture": PICTURE}],
    }


def _facts(**changes):
    manifest = {"name": "digits", "status": "completed", "step": 30, "num_steps": 30, "epochs": 3}
    return Facts(
        **({"manifest": manifest, "rows": _rows(), "evaluation": _classification(["a", "b"])} | changes)
    )


def test_a_whole_run_has_every_section():
    page = render_html(_facts(config_text="name: digits\n", environment={"python": "3.11"}))
    for title in (
        "Learning",
        "Speed",
        "Result on 2 test examples",
        "Confusion matrix",
        "Worst examples",
        "Again",
    ):
        assert title in page
    assert page.count("<svg") == 5
    assert (
        'aria-label="loss by epoch: training from 1.0000 to 0.3333, validation from 1.0000 to 0.3333."'
        in page
    )
    assert "<details>\n<summary>Config, every key resolved" in page


def test_nothing_is_fetched_and_no_script_runs():
    page = render_html(_facts())
    assert "<script" not in page
    assert not re.search(r"""(?:src|href|action)\s*=\s*(?!["']?(?:#|data:))""", page)
    assert not re.search(r"url\((?![\"']?#)|@import", page)
    assert "default-src 'none'" in page


@pytest.mark.parametrize("manifest", [{}, {"status": "running"}, {"status": "failed", "error": HOSTILE}])
@pytest.mark.parametrize(
    "rows", [[], _rows(1)[:1], _rows(1), [metric_row(1, 0, "train", {"loss": float("nan")}, time=0)]]
)
def test_missing_pieces_are_left_out(manifest, rows):
    facts = Facts(manifest=manifest, rows=rows)
    page, markdown = render_html(facts), render_markdown(facts)
    assert "Worst examples" not in page
    assert "Worst examples" not in markdown
    assert ("&lt;script&gt;" in page) == ("error" in manifest)
    assert "<script" not in page


def test_an_error_is_shown_with_the_place_of_the_logs():
    page = render_html(_facts(manifest={"status": "failed", "error": "Loss is NaN.\n  where: step 9"}))
    assert "<strong>The run failed.</strong>" in page
    assert "<pre>Loss is NaN.\n  where: step 9</pre>" in page


def test_names_from_outside_are_text_everywhere():
    facts = _facts(
        manifest={"name": HOSTILE, "status": HOSTILE, "arithmetic": HOSTILE, "data": {"fingerprint": HOSTILE}}
        | {"command": [HOSTILE], "topology": {HOSTILE: HOSTILE}},
        config={"model": {"builder": HOSTILE}},
        config_text=HOSTILE,
        rows=[metric_row(1, 0, "epoch", {HOSTILE: 1.0, "val_" + HOSTILE: 2.0}, time=0.0)],
        evaluation=_classification([HOSTILE, "$", "中文"]),
        environment={"platform": HOSTILE},
    )
    page, markdown = render_html(facts), render_markdown(facts)
    assert "<script" not in page
    assert "alert(1)" in page
    outside_code = re.sub(r"(?s)(`{3,}\n).*?\n\1?`{3,}", "", markdown)
    assert "<script" not in outside_code


def test_a_picture_must_be_a_png_and_nothing_else():
    def shown(picture):
        return worst_examples({"worst": [{"place": "a", "loss": 1.0, "picture": picture}]})[0]["picture"]

    assert shown(PICTURE) == PICTURE
    for other in (None, 7, "http://example.org/a.png", PICTURE + '" onload="x', "data:text/html;base64,AAAA"):
        assert shown(other) is None


def test_answers_are_class_names_numbers_or_text():
    evaluation = {
        "classification": {"class_names": ["cat", "dog"]},
        "worst": [
            {"target": 1, "prediction": 5, "loss": None},
            {"target": 0.5, "prediction": True, "loss": 1.0},
        ],
    }
    first, second = worst_examples(evaluation)
    assert (first["target"], first["prediction"], first["loss"]) == ("dog", "5", "not finite")
    assert (second["target"], second["prediction"]) == ("0.5000", "True")


def test_many_classes_show_the_weakest():
    evaluation = _classification([f"class {index}" for index in range(1000)])
    rows = class_rows(evaluation)
    assert [row["name"] for row in rows] == [f"class {index}" for index in range(50)]
    assert "The 50 classes of 1000 with the lowest F1" in render_html(_facts(evaluation=evaluation))
    assert "The 50 classes of 1000 with the lowest F1" in render_markdown(_facts(evaluation=evaluation))


def test_the_largest_run_stays_below_one_megabyte():
    names = [f"{index} " + "long name " * 50 for index in range(1000)]
    evaluation = _classification(names) | {
        "regression": {"targets": list(range(2000)), "predictions": [index * 1.1 for index in range(2000)]},
        "worst": [{"place": "p" * 999, "target": "t" * 999, "prediction": "q" * 999, "loss": 1.0}] * 100,
    }
    picture = "data:image/png;base64," + "A" * 100_000
    evaluation["worst"] = [one | {"picture": picture} for one in evaluation["worst"]]
    metrics = [f"metric_{index}" for index in range(12)]
    manifest = {"status": "failed", "error": "e" * 500_000, "num_steps": 10000, "epochs": 1000}
    page = render_html(
        _facts(manifest=manifest, rows=_rows(1000, metrics), evaluation=evaluation, config_text="c" * 10**6)
    )
    assert 300_000 < len(page.encode()) < 1_000_000
    assert "450,000 characters more" in page


def test_epochs_as_a_table():
    rows = [
        metric_row(10, 0, "epoch", {"loss": 1.0}, time=0.0),
        metric_row(20, 1, "epoch", {"auc": 0.5}, time=0.0),
    ]
    assert epoch_table(Facts(manifest={}, rows=rows)) == (
        ["epoch", "loss", "auc"],
        [["1", "1.0000", ""], ["2", "", "0.5000"]],
    )


def test_charts_of_a_short_or_broken_run():
    assert curves(Facts(manifest={})) == []
    assert speed_charts(Facts(manifest={}, rows=_rows(1)[:1])) == []
    broken = [
        metric_row(step, 0, "train", {"loss": float("inf")}, time=0, throughput=THROUGHPUT) for step in (1, 2)
    ]
    assert curves(Facts(manifest={}, rows=broken)) == []
    without = [row | {"examples_per_second": None} for row in broken]
    assert "not finite" in speed_charts(Facts(manifest={}, rows=without))[0].description


def test_regression_charts_say_the_residual():
    prediction, residuals = regression_charts([1.0, 2.0, 3.0, None], [1.5, 2.5, float("nan"), 1.0])
    assert prediction.description.startswith("Predictions against targets for 2 examples")
    assert "mean absolute residual is 0.5000" in residuals.description
    assert regression_charts([], []) == []


def test_a_chart_takes_colours_and_size_from_the_page():
    svg = curves(_facts())[0].svg
    assert svg.startswith('<svg aria-hidden="true"')
    assert "var(--accent)" in svg
    assert "#0101" not in svg
    assert not re.search(r"^<svg[^>]* (width|height)=", svg)
    assert svg == curves(_facts())[0].svg, "the same run must give the same page"


def test_labels_and_points_are_bounded():
    assert shortened("abc", 3) == "abc"
    assert shortened("ab\ncd", 4) == "ab …"
    assert thinned(range(10), 4) == [0, 3, 6, 9]
    assert thinned([1, 2], 4) == [1, 2]


def test_markdown_text_is_literal():
    assert markdown_text("a|b\n# c") == r"a\|b \# c"
    assert markdown_text("val_loss _it_ *b* <i> &lt;") == r"val_loss \_it\_ \*b\* &lt;i\> &amp;lt;"
    assert fenced("a ``` b") == "````\na ``` b\n````"


def test_write_report_writes_both_and_returns_the_page(tmp_path):
    run = RunDirectory(tmp_path)
    run.write_manifest({"name": "digits", "status": "running"})
    assert write_report(run) == run.report_path
    assert "<h1>digits</h1>" in run.report_path.read_text()
    assert run.report_markdown_path.read_text().startswith("# digits\n")


@pytest.mark.parametrize(("module", "package"), [("jinja2", "Jinja2"), ("matplotlib", "matplotlib")])
def test_what_is_not_installed_is_named_with_its_extra(tmp_path, monkeypatch, module, package):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependencyError, match=f"Missing optional dependency '{package}'") as caught:
        write_report(RunDirectory(tmp_path))
    assert caught.value.remedy == 'Install it with: pip install "distkeras[report]"'


def test_no_run_and_no_room_are_said(tmp_path):
    with pytest.raises(ConfigError, match="There is no run in this directory"):
        write_report(RunDirectory(tmp_path))
    run = RunDirectory(tmp_path)
    run.write_manifest({"name": "digits"})
    run.report_path.mkdir()
    with pytest.raises(ResourceError, match=r"A file is in the way: could not write report\.html"):
        write_report(run)
