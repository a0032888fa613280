"""What a task asks of labels, and how it reads a model's outputs."""

import keras
import numpy as np
import pytest

from distkeras.config.sections import TaskSection
from distkeras.errors import DataError
from distkeras.tasks import make_task


def test_classes_are_counted_from_the_labels():
    task = make_task(TaskSection(kind="tabular_classification"), np.array([0, 2, 1]), None, "data")
    assert task.num_outputs == 3
    assert task.class_names == ("0", "1", "2")


def test_classes_may_be_named_and_may_be_more_than_the_labels_show():
    section = TaskSection(kind="image_classification", num_classes=3)
    task = make_task(section, np.array([0, 1]), ("cat", "dog", "owl"), "data")
    assert task.class_names == ("cat", "dog", "owl")
    assert task.needs_images


def test_one_class_alone_still_has_two_outputs():
    assert make_task(TaskSection(kind="tabular_classification"), np.zeros(4, int), None, "d").num_outputs == 2


def test_numbers_are_not_class_labels():
    with pytest.raises(DataError, match="needs labels that are whole numbers or names") as caught:
        make_task(TaskSection(kind="tabular_classification"), np.array([0.5]), None, "data.csv")
    assert caught.value.place == "data.csv"
    assert "tabular_regression" in caught.value.remedy


def test_class_outputs_become_names_and_probabilities():
    task = make_task(TaskSection(kind="tabular_classification"), np.array([0, 1]), ("no", "yes"), "d")
    columns = task.decode(np.array([[0.9, 0.1], [0.2, 0.8]], "float32"))
    assert columns["prediction"].tolist() == [0, 1]
    assert columns["class_name"].tolist() == ["no", "yes"]
    assert columns["probability_yes"].tolist() == pytest.approx([0.1, 0.8])


def test_regression_outputs_are_the_numbers():
    task = make_task(TaskSection(kind="tabular_regression"), np.array([0.5]), None, "d")
    assert task.decode(np.array([[1.5], [2.5]])) == {"prediction": pytest.approx([1.5, 2.5])}


def test_logits_become_probabilities():
    task = make_task(TaskSection(kind="tabular_classification"), np.array([0, 1]), ("no", "yes"), "d")
    logits = np.array([[2.0, -1.0], [0.0, 0.0]])
    assert task.decode(logits)["probability_no"].tolist() == pytest.approx([1 / (1 + np.exp(-3)), 0.5])
    assert task.decode(np.array([[0.7, 0.3]]))["probability_no"].tolist() == [0.7]


def test_a_forecast_has_an_output_for_each_row_ahead():
    task = make_task(TaskSection(kind="time_series_forecasting"), np.zeros((5, 3), "float32"), None, "d")
    assert (task.num_outputs, task.activation, task.is_classification) == (3, None, False)
    columns = task.decode(np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]))
    assert {name: values.tolist() for name, values in columns.items()} == {
        "prediction_1": [1, 4],
        "prediction_2": [2, 5],
        "prediction_3": [3, 6],
    }


@pytest.mark.parametrize("labels", [np.zeros((5, 1), "float32"), np.zeros(5, "float32")])
def test_a_forecast_of_one_row_is_one_number(labels):
    task = make_task(TaskSection(kind="time_series_forecasting"), labels, None, "d")
    assert task.decode(np.array([[1.5], [2.5]])) == {"prediction": pytest.approx([1.5, 2.5])}


def test_keras_knows_the_metrics_of_a_forecast():
    task = make_task(TaskSection(kind="time_series_forecasting"), np.zeros((5, 2), "float32"), None, "d")
    model = keras.Sequential([keras.Input((2,)), keras.layers.Identity()])
    model.compile(loss=task.loss, metrics=list(task.metrics))
    targets = np.array([[0.0, 0.0], [3.0, 1.0]])
    values = model.evaluate(np.zeros((2, 2)), targets, verbose=0, return_dict=True)
    assert values["mean_absolute_error"] == pytest.approx(1.0)
    assert values["root_mean_squared_error"] == pytest.approx(np.sqrt(10 / 4))


def test_names_cannot_be_forecast():
    with pytest.raises(DataError, match="needs one number for each row ahead") as caught:
        make_task(TaskSection(kind="time_series_forecasting"), np.array(["a", "b"]), None, "data.csv")
    assert caught.value.place == "data.csv"
