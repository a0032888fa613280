"""What the columns of a table become, against scikit-learn's own transformers."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn import feature_selection, impute, preprocessing

from distkeras.config.source_sections import CsvSource
from distkeras.config.transform_sections import TabularSection
from distkeras.data.preprocessing.tabular import TabularPreprocessing, learn_tabular, restore_tabular
from distkeras.data.sources.arrays import ArraySource
from distkeras.data.sources.base import Source, Subset
from distkeras.data.sources.tabular import open_tabular
from distkeras.errors import ConfigError, DataError, MissingDependencyError

ROOT = Path(__file__).parents[4]
CITIES = ["Paris", "Oslo", "Rome", "", "New York, NY", "é\nè"]
COUNTS = [60, 50, 40, 30, 2, 1]


def write_table(path: Path, columns: dict[str, list[object]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


def open_table(path: Path, columns: dict[str, list[object]]) -> Source:
    write_table(path, columns)
    return open_tabular(CsvSource(kind="csv", path=path, label="label"), raw=True)


@pytest.fixture(scope="module")
def table() -> dict[str, list[object]]:
    """183 rows with empty cells, outliers, ties, a large offset, a constant, and text."""
    draw = np.random.default_rng(0)
    city = np.repeat(CITIES, COUNTS)[draw.permutation(sum(COUNTS))]
    size = len(city)
    columns = {
        "age": draw.normal(40, 12, size).round(1).astype(np.float32),
        "income": np.exp(draw.normal(10, 1, size)).astype(np.float32),
        "year": (2.0e6 + draw.integers(0, 9, size)).astype(np.float32),
        "flag": np.full(size, np.float32(0.1)),
    }
    cells: dict[str, list[object]] = {name: values.tolist() for name, values in columns.items()}
    for name, rows in {"age": range(0, size, 7), "year": range(3, size, 11)}.items():
        for row in rows:
            cells[name][row] = ""
    label = (columns["age"] > 40) ^ (city == "Oslo")
    return {**cells, "city": city.tolist(), "label": np.where(label, "yes", "no").tolist()}


@pytest.fixture
def source(tmp_path: Path, table: dict[str, list[object]]) -> Source:
    return open_table(tmp_path / "people.csv", table)


def features_of(source: Source) -> dict[str, np.ndarray]:
    return source.read_arrays(np.arange(source.num_examples))[0]


def numbers_of(source: Source) -> np.ndarray:
    features = features_of(source)
    return np.stack([features[name] for name in ("age", "income", "year", "flag")], axis=1).astype(np.float64)


def learnt(source: Source, **keys: object) -> TabularPreprocessing:
    return learn_tabular(TabularSection.model_validate(keys), source)


def applied(made: TabularPreprocessing, source: Source) -> np.ndarray:
    return made(features_of(source)).numpy()


def by_name(made: TabularPreprocessing, source: Source) -> dict[str, np.ndarray]:
    assert made.feature_names is not None
    return dict(zip(made.feature_names, applied(made, source).T, strict=True))


class TestAgainstScikitLearn:
    @pytest.mark.parametrize("strategy", ["mean", "median", "most_frequent", "constant"])
    def test_empty_cells(self, source: Source, strategy: str) -> None:
        made = learnt(source, impute=strategy, indicate_missing=True)
        ours = by_name(made, source)
        theirs = impute.SimpleImputer(strategy=strategy, fill_value=0.0).fit_transform(numbers_of(source))
        for position, name in enumerate(("age", "income", "year", "flag")):
            np.testing.assert_allclose(ours[name], theirs[:, position], rtol=1e-6)
        missing = impute.MissingIndicator(features="missing-only").fit_transform(numbers_of(source))
        assert [name for name in ours if "missing" in name] == ["age is missing", "year is missing"]
        np.testing.assert_array_equal(ours["age is missing"], missing[:, 0])
        np.testing.assert_array_equal(ours["year is missing"], missing[:, 1])

    @pytest.mark.parametrize("outliers", ["none", "clip"])
    @pytest.mark.parametrize("method", ["standard", "min_max", "quantile"])
    def test_scale(self, source: Source, method: str, outliers: str) -> None:
        made = learnt(source, impute="median", outliers=outliers, outlier_factor=1.0, normalize=method)
        ours = np.stack([by_name(made, source)[name] for name in ("age", "income", "year", "flag")], axis=1)
        raw = numbers_of(source)
        values = impute.SimpleImputer(strategy="median").fit_transform(raw)
        if outliers == "clip":
            low, high = np.nanpercentile(raw, [25, 75], axis=0)
            reach = np.where(high > low, high - low, np.inf)
            values = np.clip(values, low - reach, high + reach)
        scaler = {
            "standard": preprocessing.StandardScaler(),
            "min_max": preprocessing.MinMaxScaler(),
            "quantile": preprocessing.QuantileTransformer(n_quantiles=len(values), subsample=None),
        }[method]
        np.testing.assert_allclose(ours, scaler.fit_transform(values), atol=1e-6)

    def test_ranks_of_numbers_that_were_not_in_training(self, tmp_path: Path) -> None:
        draw = np.random.default_rng(1)
        train = draw.choice([0.0, 0.0, 1.0, 2.5, 7.0, 7.0, 9.0], 40)
        new = np.concatenate([draw.uniform(-2, 12, 200), np.unique(train)]).astype(np.float32)
        made = learnt(
            open_table(tmp_path / "a.csv", {"a": train.tolist(), "label": [0, 1] * 20}), normalize="quantile"
        )
        scaler = preprocessing.QuantileTransformer(n_quantiles=40, subsample=None).fit(train[:, np.newaxis])
        expected = scaler.transform(new.astype(np.float64)[:, np.newaxis])
        np.testing.assert_allclose(made({"a": new}).numpy(), expected, atol=1e-6)

    def test_mean_labels(self, source: Source) -> None:
        made = learnt(source, impute="mean", encode="target", max_categories=6)
        city = features_of(source)["city"]
        encoder = preprocessing.TargetEncoder(smooth=10.0, target_type="continuous")
        cities = np.array([text.decode() for text in city])[:, np.newaxis]
        encoder.fit(cities, source.labels().astype(float))
        np.testing.assert_allclose(by_name(made, source)["city"], encoder.transform(cities)[:, 0], rtol=1e-6)
        unknown = {**features_of(source), "city": np.array(["Atlantis"] * source.num_examples, object)}
        position = made.feature_names.index("city")
        np.testing.assert_allclose(made(unknown).numpy()[:, position], source.labels().mean(), rtol=1e-6)

    def test_one_column_each(self, source: Source) -> None:
        made = learnt(source, impute="mean")
        cities = np.array([text.decode() for text in features_of(source)["city"]])[:, np.newaxis]
        encoder = preprocessing.OneHotEncoder(categories=[CITIES], sparse_output=False).fit(cities)
        ours = np.stack([column for name, column in by_name(made, source).items() if "city" in name], axis=1)
        np.testing.assert_array_equal(ours, encoder.transform(cities))

    @pytest.mark.parametrize("is_classification", [True, False])
    def test_selection(self, tmp_path: Path, table: dict[str, list[object]], is_classification: bool) -> None:
        incomes = [float(str(income)) for income in table["income"]]
        label = table["label"] if is_classification else np.log(incomes).round(3).tolist()
        source = open_table(tmp_path / "a.csv", {**table, "hint": table["label"], "label": label})
        everything = learnt(source, impute="median", normalize="standard")
        assert everything.feature_names is not None
        score = getattr(feature_selection, f"mutual_info_{'classif' if is_classification else 'regression'}")
        is_discrete = np.array(["=" in name or "empty" in name for name in everything.feature_names])
        scores = score(
            applied(everything, source), source.labels(), discrete_features=is_discrete, random_state=0
        )
        best = sorted(np.argsort(-scores, kind="stable")[:3])
        made = learnt(source, impute="median", normalize="standard", select=3)
        assert made.feature_names == tuple(everything.feature_names[position] for position in best)
        assert made.feature_shape == (3,)
        np.testing.assert_array_equal(applied(made, source), applied(everything, source)[:, best])
        assert ("hint=yes" if is_classification else "income") in made.feature_names


class TestCategories:
    def test_names(self, source: Source) -> None:
        made = learnt(source, impute="mean", indicate_missing=True, max_categories=4)
        assert made.feature_names == (
            *("age", "income", "year", "flag", "age is missing", "year is missing"),
            *("city=Paris", "city=Oslo", "city=Rome", "city is empty", "city is other"),
        )
        assert made.feature_shape == (11,)
        assert made.feature_dtype == "float32"

    def test_rare_and_unknown_ones_are_the_other(self, source: Source) -> None:
        made = learnt(source, impute="mean", max_categories=4)
        row = {name: column[:1] for name, column in features_of(source).items()}
        for city in ("é\nè", "New York, NY", "Atlantis", "\uffff"):
            assert made({**row, "city": np.array([city], object)}).numpy()[0, 4:].tolist() == [0, 0, 0, 0, 1]

    def test_without_others_in_training_an_unknown_one_is_zeros(self, source: Source) -> None:
        made = learnt(source, impute="mean")
        row = {name: column[:1] for name, column in features_of(source).items()}
        assert made({**row, "city": np.array(["Atlantis"], object)}).numpy()[0, 4:].tolist() == [0] * 6

    def test_index(self, source: Source) -> None:
        made = learnt(source, impute="mean", encode="index", max_categories=3)
        cities = np.array([text.decode() for text in features_of(source)["city"]])
        expected = np.select([cities == city for city in CITIES[:3]], [1, 2, 3], 0)
        np.testing.assert_array_equal(by_name(made, source)["city"], expected)

    def test_equally_frequent_ones_are_ranked_by_name(self, tmp_path: Path) -> None:
        source = open_table(tmp_path / "a.csv", {"a": ["c", "b", "a", "b"], "label": [0, 1, 0, 1]})
        assert learnt(source).feature_names == ("a=b", "a=a", "a=c")

    def test_numbers_may_be_categories(self, tmp_path: Path) -> None:
        cells = [3, 3.0, "", 0.1, -0.0, 0, 16777217, 3]
        source = open_table(tmp_path / "a.csv", {"a": cells, "b": range(8), "label": [0, 1] * 4})
        made = learnt(source, categorical=["a"])
        assert made.feature_names == ("b", "a=3", "a=0", "a is empty", "a=0.1", "a=16777216")
        encoded = by_name(made, source)
        assert encoded["a=3"].tolist() == [1, 1, 0, 0, 0, 0, 0, 1]
        assert encoded["a=0"].tolist() == [0, 0, 0, 0, 1, 1, 0, 0]
        assert encoded["a is empty"].tolist() == [0, 0, 1, 0, 0, 0, 0, 0]
        assert encoded["a=0.1"].tolist() == [0, 0, 0, 1, 0, 0, 0, 0]

    def test_a_class_index_has_no_mean(self, tmp_path: Path) -> None:
        columns = {"a": ["x", "y", "z"], "label": ["one", "two", "three"]}
        with pytest.raises(DataError, match="more than two classes") as caught:
            learnt(open_table(tmp_path / "a.csv", columns), encode="target")
        assert caught.value.received == ["one", "three", "two"]
        # Many whole numbers are a quantity, which has one.
        many = {"a": ["x", "y"] * 15, "label": list(range(30))}
        assert learnt(open_table(tmp_path / "b.csv", many), encode="target").feature_names == ("a",)


class TestOutliers:
    def columns(self, values: list[object]) -> dict[str, list[object]]:
        return {
            "a": values,
            "city": ["x"] * (len(values) - 1) + ["far"],
            "label": [0, 1] * (len(values) // 2),
        }

    def test_rows_far_out_are_left_out_of_what_is_learnt(self, tmp_path: Path) -> None:
        values = [*range(10), "", 1000]
        source = open_table(tmp_path / "a.csv", self.columns(values))
        made = learnt(source, impute="median", outliers="drop", normalize="min_max")
        assert made.drops_examples
        kept = made.keep(features_of(source))
        assert kept is not None
        assert kept.tolist() == [True] * 11 + [False]
        # The scale and the categories are those of the rows that are kept; the others are not moved.
        assert made.feature_names == ("a", "city=x")
        encoded = applied(made, source)
        np.testing.assert_allclose(encoded[:10, 0], np.arange(10) / 9, rtol=1e-6)
        np.testing.assert_allclose(encoded[-1], [1000 / 9, 0], rtol=1e-6)

    def test_clipping_keeps_all_rows(self, tmp_path: Path) -> None:
        values = [*range(10), "", 1000]
        source = open_table(tmp_path / "a.csv", self.columns(values))
        made = learnt(source, impute="median", outliers="clip", outlier_factor=1.0)
        assert not made.drops_examples
        assert made.keep(features_of(source)) is None
        # The quartiles of the eleven numbers are 2.5 and 7.5.
        assert applied(made, source)[-1, 0] == 12.5

    def test_a_column_of_mostly_one_number_has_none(self, tmp_path: Path) -> None:
        source = open_table(tmp_path / "a.csv", self.columns([0] * 11 + [5]))
        kept = learnt(source, outliers="drop").keep(features_of(source))
        assert kept is not None
        assert kept.all()

    def test_nothing_left(self, tmp_path: Path) -> None:
        # Each row is far out in one of the columns.
        columns = {f"c{i}": [100 if row == i else row % 3 for row in range(6)] for i in range(6)}
        source = open_table(tmp_path / "a.csv", {**columns, "label": [0, 1] * 3})
        with pytest.raises(DataError, match="Every training example has an outlier"):
            learnt(source, outliers="drop")


class TestState:
    SECTIONS = (
        {"impute": "mean", "indicate_missing": True, "outliers": "clip", "normalize": "quantile"},
        {"impute": "median", "normalize": "standard", "encode": "target", "outliers": "drop"},
        {
            "impute": "constant",
            "normalize": "min_max",
            "encode": "index",
            "categorical": ["year"],
            "select": 3,
        },
    )

    @pytest.mark.parametrize("keys", SECTIONS)
    def test_what_was_learnt_goes_through_json(self, source: Source, keys: dict[str, object]) -> None:
        made = learnt(source, **keys)
        restored = restore_tabular(json.loads(json.dumps(made.state(), sort_keys=True, allow_nan=False)))
        assert restored.feature_names == made.feature_names
        assert restored.feature_shape == made.feature_shape
        assert restored.drops_examples == made.drops_examples
        np.testing.assert_array_equal(applied(restored, source), applied(made, source))
        assert restored.state() == made.state()

    def test_learning_twice_gives_the_same(self, source: Source) -> None:
        for keys in self.SECTIONS:
            assert learnt(source, **keys).state() == learnt(source, **keys).state()

    def test_only_the_training_part_is_learnt_from(self, source: Source) -> None:
        part = Subset(source, np.arange(50))
        keys = {"impute": "mean", "normalize": "standard", "encode": "target"}
        assert learnt(part, **keys).state() != learnt(source, **keys).state()

    def test_graphs_compute_what_eager_calls_compute(self, source: Source) -> None:
        made = learnt(source, **self.SECTIONS[0])
        batches = tf.data.Dataset.range(source.num_examples).batch(61, drop_remainder=True)
        batches = batches.map(lambda ids: made(source.read(ids)[0]))
        assert batches.element_spec == tf.TensorSpec((61, *made.feature_shape), tf.float32)
        np.testing.assert_array_equal(
            np.concatenate(list(batches.as_numpy_iterator())), applied(made, source)
        )


JAX_CODE = """
import json, sys
import numpy as np
import tensorflow as tf
from pathlib import Path
import keras
from distkeras.config.source_sections import CsvSource
from distkeras.data.preprocessing.tabular import restore_tabular
from distkeras.data.sources.tabular import open_tabular

folder = Path(sys.argv[1])
source = open_tabular(CsvSource(kind="csv", path=folder / "people.csv", label="label"), raw=True)
made = restore_tabular(json.loads((folder / "state.json").read_text()))
eager = made(source.read_arrays(np.arange(source.num_examples))[0])
batches = tf.data.Dataset.range(source.num_examples).batch(61).map(lambda ids: made(source.read(ids)[0]))
graph = np.concatenate(list(batches.as_numpy_iterator()))
np.save(folder / "features.npy", np.stack([np.asarray(eager), graph]))
print(keras.backend.backend())
"""

LOADING_CODE = """
import json, sys
import keras, numpy as np, tensorflow as tf
from pathlib import Path
import distkeras.data.preprocessing.tabular_layers

folder = Path(sys.argv[1])
model = keras.saving.load_model(folder / "model.keras")
rows = json.loads((folder / "rows.json").read_text())
rows = {name: tf.constant(rows[name], tensor.dtype) for name, tensor in model.input.items()}
np.save(folder / "outputs.npy", model(rows).numpy())
"""


class TestElsewhere:
    def test_tf_data_computes_the_same_where_keras_computes_with_jax(
        self, source: Source, tmp_path: Path
    ) -> None:
        made = learnt(source, **TestState.SECTIONS[0])
        (tmp_path / "state.json").write_text(json.dumps(made.state()))
        done = run_code(JAX_CODE, tmp_path, KERAS_BACKEND="jax")
        assert done.stdout.strip() == "jax"
        for features in np.load(tmp_path / "features.npy"):
            np.testing.assert_array_equal(features, applied(made, source))

    def test_a_model_with_its_preprocessing_takes_raw_rows_in_another_process(
        self, source: Source, tmp_path: Path
    ) -> None:
        made = learnt(source, **TestState.SECTIONS[0])
        inputs = {
            name: keras.Input((), dtype=dtype, name=name) for name, dtype in source.feature_dtype.items()
        }
        keras.utils.set_random_seed(0)
        model = keras.Model(inputs, keras.layers.Dense(3)(made.as_layer()(inputs)))
        model.save(tmp_path / "model.keras")
        rows = {
            "age": [31.0, float("nan"), 1e6],
            "income": [1e4, 2e4, 3e4],
            "year": [float("nan"), 2e6, 2e6 + 3],
            "flag": [0.1, 0.1, 0.2],
            "city": ["Oslo", "", "Atlantis"],
        }
        (tmp_path / "rows.json").write_text(json.dumps(rows))
        run_code(LOADING_CODE, tmp_path)
        outputs = np.load(tmp_path / "outputs.npy")
        here = model({name: tf.constant(rows[name], tensor.dtype) for name, tensor in inputs.items()})
        np.testing.assert_array_equal(outputs, here.numpy())
        kernel, bias = model.layers[-1].get_weights()
        features = made(
            {
                name: np.array(values, object if name == "city" else np.float32)
                for name, values in rows.items()
            }
        )
        np.testing.assert_allclose(outputs, features.numpy() @ kernel + bias, rtol=1e-5)

    def test_an_exported_model_takes_raw_rows(self, source: Source, tmp_path: Path) -> None:
        made = learnt(source, **TestState.SECTIONS[0])
        inputs = {
            name: keras.Input((), dtype=dtype, name=name) for name, dtype in source.feature_dtype.items()
        }
        model = keras.Model(inputs, made.as_layer()(inputs))
        model.export(tmp_path / "saved", verbose=False)
        served = tf.saved_model.load(tmp_path / "saved").serve
        rows = source.read(tf.range(9, dtype=tf.int64))[0]
        np.testing.assert_array_equal(served(rows), made(rows).numpy())


def run_code(code: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )


class TestRefusals:
    def test_empty_cells_that_nothing_fills(self, source: Source) -> None:
        with pytest.raises(
            DataError, match="Column 'age' has 27 empty cells, and nothing fills them"
        ) as caught:
            learnt(source)
        assert caught.value.place == "people.csv row 1, column 'age'"

    def test_empty_cells_in_new_data_where_training_had_none(self, tmp_path: Path) -> None:
        columns = {"a": [1, 2, 3], "b": ["x", "", "y"], "label": [0, 1, 0]}
        made = learnt(open_table(tmp_path / "train.csv", columns))
        made.check(open_table(tmp_path / "new.csv", {**columns, "b": ["", "", ""]}))
        with pytest.raises(DataError, match="Column 'a' has 1 empty cell, and nothing fills them") as caught:
            made.check(open_table(tmp_path / "new.csv", {**columns, "a": [1, "", 3]}))
        assert caught.value.place == "new.csv row 2, column 'a'"
        filled = learnt(open_table(tmp_path / "train.csv", columns), impute="mean")
        filled.check(open_table(tmp_path / "new.csv", {**columns, "a": [1, "", 3]}))

    def test_a_column_without_numbers(self, tmp_path: Path) -> None:
        columns = {"a": ["", ""], "b": [1, 2], "label": [0, 1]}
        source = open_table(tmp_path / "a.csv", columns)
        with pytest.raises(DataError, match="Column 'a' is empty in the whole training part"):
            learnt(source, impute="mean")
        assert applied(learnt(source, impute="constant"), source)[:, 0].tolist() == [0, 0]

    def test_a_category_column_that_is_not_there(self, source: Source) -> None:
        with pytest.raises(ConfigError, match="There is no feature column 'yaer'") as caught:
            learnt(source, categorical=["yaer"])
        assert caught.value.remedy == "did you mean 'year'?"

    @pytest.mark.parametrize("features", [np.ones((4, 2), np.float32), {"a": np.ones((4, 2), np.float32)}])
    def test_a_source_without_columns(self, features: object) -> None:
        with pytest.raises(ConfigError, match="this source has none"):
            learnt(ArraySource(features, np.zeros(4, np.int64)))

    def test_selection_without_scikit_learn(self, source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "sklearn", None)
        with pytest.raises(MissingDependencyError, match="'scikit-learn'") as caught:
            learnt(source, impute="mean", select=2)
        assert caught.value.remedy == 'Install it with: pip install "distkeras[tabular]"'
        assert learnt(source, impute="mean").feature_shape == (10,)
