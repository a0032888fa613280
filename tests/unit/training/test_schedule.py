"""The arithmetic of intervals and chunks: every step once, every logging point and commit met exactly."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distkeras.training.schedule import CHUNK_SECONDS, ChunkSize, Cursor, logging_interval


def run(cursor, epochs, size=10**9):
    """Plays Keras: asks for intervals, epoch by epoch, and returns (logging points, commits, epochs' intervals)."""
    points, commits, steps = [], [], []
    for _ in range(cursor.epoch, epochs):
        for _ in range(-(-cursor.steps_per_epoch // cursor.interval)):
            end = cursor.next_interval()
            while cursor.step < end:
                chunk = cursor.chunk(end, size)
                assert chunk > 0
                steps.append(chunk)
                cursor.step += chunk
                if cursor.commit_due:
                    commits.append(cursor.step)
            if cursor.ran:
                points.append(cursor.step)
    return points, commits, steps


@given(
    steps_per_epoch=st.integers(1, 60),
    interval=st.integers(1, 60),
    commit_every=st.none() | st.integers(1, 60),
    epochs=st.integers(1, 4),
    size=st.integers(1, 30),
    data=st.data(),
)
def test_a_resumed_run_meets_the_same_points_as_an_undisturbed_one(
    steps_per_epoch, interval, commit_every, epochs, size, data
):
    interval = min(interval, steps_per_epoch)
    start = data.draw(st.integers(0, steps_per_epoch * epochs))
    whole = run(Cursor(steps_per_epoch, interval, commit_every), epochs)
    rest = run(Cursor(steps_per_epoch, interval, commit_every, step=start), epochs, size)
    assert sum(rest[2]) == steps_per_epoch * epochs - start
    assert rest[0] == [point for point in whole[0] if point > start]
    assert rest[1] == [commit for commit in whole[1] if commit > start]
    assert max(rest[2], default=0) <= size


def test_every_epoch_ends_at_a_logging_point():
    points, _, _ = run(Cursor(10, 4), epochs=2)
    assert points == [4, 8, 10, 14, 18, 20]


def test_intervals_trained_before_a_resume_are_not_run():
    cursor = Cursor(10, 4, step=8)
    assert not cursor.has_steps_to_run
    assert cursor.next_interval() == 4
    assert not cursor.ran


@pytest.mark.parametrize(
    ("steps_per_epoch", "every", "interval"),
    [(19, "auto", 19), (200, "auto", 200), (500, "auto", 50), (5000, "auto", 100), (19, 5, 5), (19, 50, 19)],
)
def test_logging_interval(steps_per_epoch, every, interval):
    assert logging_interval(steps_per_epoch, every) == interval


def run_chunk(size: ChunkSize, seconds_per_step: float, vote_of_others: int | None = None) -> int:
    """One chunk, as the loop runs it: the wish from before it is voted on while it runs."""
    num_steps, wish = size.steps, size.wish
    size.steps = wish if vote_of_others is None else min(wish, vote_of_others)
    size.observe(num_steps, num_steps * seconds_per_step)
    return num_steps


def test_a_chunk_grows_until_it_is_long_enough():
    size = ChunkSize()
    sizes = [run_chunk(size, 0.001) for _ in range(18)]
    assert sizes == [1, 1, 2, 2, 4, 4, 8, 8, 16, 16, 32, 32, 64, 64, 128, 128, 128, 128]


def test_no_worker_runs_longer_chunks_than_another_wishes():
    size = ChunkSize()
    assert max(run_chunk(size, 0.001, vote_of_others=4) for _ in range(18)) == 4


def test_a_chunk_shrinks_when_steps_become_slow():
    size = ChunkSize(steps=64)
    size.observe(64, 5 * CHUNK_SECONDS)
    assert size.wish == 32


def test_a_short_chunk_before_an_interval_ends_says_nothing_of_a_long_one():
    size = ChunkSize(steps=64)
    size.observe(3, 0.001)
    assert size.wish == 64


def test_a_chosen_size_stays():
    size = ChunkSize(fixed=7)
    size.observe(7, 0.0)
    size.observe(7, 100.0)
    assert size.wish == 7
