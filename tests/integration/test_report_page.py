"""The report as a real browser shows it: no sideways scrolling, nothing fetched, no script run."""

import base64
import html
import io
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_diabetes, load_digits

from distkeras.observability.metrics_file import metric_row
from distkeras.observability.report import write_report
from distkeras.observability.run_directory import RunDirectory

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--virtual-time-budget=2000"),
]
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")

# A frame of the wanted width, because a headless window has a least width of its own. The frame's content
# policy lets it fetch nothing and run nothing; the measuring script lives outside.
MEASURE = """<!doctype html><pre id="result">not measured</pre>
<iframe id="frame" style="border: 0; width: {width}px; height: 900px" srcdoc="{page}"></iframe>
<script>
addEventListener("load", () => {{
  const frame = document.getElementById("frame"), page = frame.contentDocument;
  for (const details of page.querySelectorAll("details")) details.open = true;
  const width = page.documentElement.clientWidth;
  const outside = [...page.querySelectorAll("body *")]
    .filter(element => !element.closest(".scroll, svg"))
    .filter(element => element.getBoundingClientRect().right > width + 0.5);
  const heights = selector =>
    [...page.querySelectorAll(selector)].map(element => element.getBoundingClientRect().height);
  document.getElementById("result").textContent = JSON.stringify({{
    width, scrollWidth: page.documentElement.scrollWidth,
    outside: outside.map(element => element.tagName + "." + element.className),
    fetched: frame.contentWindow.performance.getEntriesByType("resource")
      .map(entry => entry.name).filter(name => !name.startsWith("data:")),
    brokenPictures: [...page.images].filter(image => !image.naturalWidth).length,
    numPictures: page.images.length,
    numCharts: heights("svg").filter(height => height > 100).length,
    smallestText: Math.min(...heights("svg text")),
    scriptRan: page.title === "hacked",
  }});
}});
</script>"""
LONG = "a/very/long/path/without/any/space/" * 6
HOSTILE = "<script>document.title='hacked'</script><img src=x onerror=\"document.title='hacked'\">"


def _render(run, tmp_path, width):
    page = write_report(run).read_text(encoding="utf-8")
    wrapper = tmp_path / f"wrapper-{width}.html"
    wrapper.write_text(MEASURE.format(width=width, page=html.escape(page)), encoding="utf-8")
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    command = [CHROMIUM, *FLAGS, profile, "--window-size=1400,1000", "--dump-dom", wrapper.as_uri()]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    measured = re.search(r'<pre id="result">(.*?)</pre>', result.stdout, re.DOTALL)
    return json.loads(html.unescape(measured.group(1)))


def _rows(num_epochs, metrics):
    speed = {
        "examples_per_second": 51234.0,
        "input_wait_ratio": 0.4,
        "step_milliseconds": 2.0,
        "memory_bytes": 2**30,
    }
    for epoch in range(num_epochs):
        values = {name: 2.0**-epoch for name in metrics}
        for step in (epoch * 40 + 20, epoch * 40 + 40):
            yield metric_row(step, epoch, "train", values, time=0.0, throughput=speed)
        values |= {f"val_{name}": value for name, value in values.items()}
        yield metric_row(epoch * 40 + 40, epoch, "epoch", values, time=0.0)


def _picture(pixels):
    buffer = io.BytesIO()
    Image.fromarray((pixels * 15.9).astype("uint8")).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _classification(names, pictures):
    size = len(names)
    matrix = np.eye(size, dtype=int) * 20 + 1
    return {
        "split": "test",
        "num_examples": int(matrix.sum()),
        "metrics": {"test_loss": 0.1, "test_accuracy": 0.97},
        "classification": {
            "class_names": names,
            "confusion_matrix": matrix.tolist(),
            "per_class": [
                {"name": name, "precision": 0.9, "recall": 0.9, "f1": 0.9, "support": 1234} for name in names
            ],
        },
        "regression": None,
        "worst": [
            {"place": f"{LONG}{index}.png", "target": 0, "prediction": 1, "loss": 3.2, "picture": picture}
            for index, picture in enumerate(pictures)
        ],
    }


def _regression():
    targets = load_diabetes().target.tolist()
    worst = {
        "place": "diabetes.parquet row 17",
        "target": 310.0,
        "prediction": 120.5,
        "loss": 9e4,
        "picture": None,
    }
    return {
        "split": "test",
        "num_examples": len(targets),
        "metrics": {"test_loss": 2900.0, "test_mean_absolute_error": 43.2},
        "classification": None,
        "regression": {"targets": targets, "predictions": [100 + 0.4 * value for value in targets]},
        "worst": [worst] * 5,
    }


def _write(path, evaluation, *, metrics=("loss", "accuracy"), **manifest):
    run = RunDirectory(path)
    run.create()
    whole = {
        "name": "digits",
        "status": "completed",
        "step": 200,
        "num_steps": 200,
        "epochs": 5,
        "identity": "4f" * 32,
    }
    whole |= {
        "command": ["distkeras", "train", "--config", LONG],
        "arithmetic": "global batch 32 = 1 worker x 32",
    }
    run.write_manifest(whole | {"data": {"num_examples": 1797, "fingerprint": "e" * 64}} | manifest)
    run.config_path.write_text(f"name: digits\ndata: {{source: {{kind: arrays, path: {LONG}}}}}\n")
    run.write_environment(
        {"platform": "Linux-" + "x" * 80, "python": "3.11.7", "versions": {"keras": "3.15.1"}}
    )
    run.metrics_path.write_text("".join(json.dumps(row) + "\n" for row in _rows(5, metrics)))
    if evaluation:
        run.write_evaluation(evaluation)
    return run


@pytest.fixture(params=["classification", "regression", "failed", "hostile"])
def run(request, tmp_path):
    pictures = [_picture(image) for image in load_digits().images[:8]]
    path = tmp_path / "run"
    if request.param == "classification":
        return _write(path, _classification([str(digit) for digit in range(10)], pictures))
    if request.param == "regression":
        return _write(path, _regression(), metrics=("loss", "mean_absolute_error"))
    if request.param == "failed":
        return _write(path, None, status="failed", error="Loss is NaN.\n  where: " + LONG, step=9)
    names = [HOSTILE, "x" * 200, *(f"class {index}" for index in range(18))]
    return _write(path, _classification(names, pictures), name=HOSTILE, metrics=("loss", HOSTILE, "m" * 150))


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_fits_fetches_nothing_and_runs_nothing(run, tmp_path, width):
    seen = _render(run, tmp_path, width)
    assert seen["width"] >= width - 20, "the frame must have the width that is tested"
    assert seen["scrollWidth"] <= seen["width"]
    assert seen["outside"] == []
    assert seen["fetched"] == []
    assert seen["scriptRan"] is False
    assert seen["brokenPictures"] == 0
    evaluation = run.read_evaluation() or {}
    assert seen["numPictures"] == sum(one["picture"] is not None for one in evaluation.get("worst", []))
    assert seen["numCharts"] >= 5
    assert seen["smallestText"] >= 7, "text in a chart must be readable on a phone"


class Resources(HTMLParser):
    """Collects every attribute that could name a resource, as a browser parses it."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.found = set(), []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        names = ("src", "href", "xlink:href", "srcset", "action", "data", "poster")
        self.found += [value for name, value in attrs if name in names]
        styles = [value for name, value in attrs if name == "style"]
        self.found += [style for style in styles if "url(" in style.replace("url(#", "")]


def test_the_page_is_one_file_below_one_megabyte(run):
    page = write_report(run).read_text(encoding="utf-8")
    assert len(page.encode()) < 1_000_000
    resources = Resources(page)
    assert [value for value in resources.found if not value.startswith(("#", "data:image/png;base64,"))] == []
    assert resources.tags & {"script", "link", "iframe", "object", "base", "form"} == set()
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL).group(1)
    assert not re.search(r"url\(|@import", style)
