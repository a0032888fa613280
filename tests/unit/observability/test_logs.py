"""Each rank logs to its own file, and leaves logging as it was."""

import logging
import re
import warnings

import pytest

from distkeras.errors import ResourceError
from distkeras.observability.logs import rank_log


def test_a_line_has_time_rank_level_and_source(tmp_path):
    path = tmp_path / "logs" / "rank-2.log"
    with rank_log(path, rank=2) as logger:
        logger.info("step %d", 7)
        logger.debug("not written")
        logging.getLogger("keras").error("from elsewhere")
    first, second = path.read_text().splitlines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} rank 2 INFO distkeras: step 7", first)
    assert second.endswith("rank 2 ERROR keras: from elsewhere")


def test_a_second_start_appends(tmp_path):
    path = tmp_path / "rank-0.log"
    for text in ("first", "second"):
        with rank_log(path, rank=0) as logger:
            logger.info(text)
    assert [line.split()[-1] for line in path.read_text().splitlines()] == ["first", "second"]


def test_warnings_go_to_the_log_and_blocks_nest(tmp_path):
    before = warnings.showwarning, logging.getLogger().level, list(logging.getLogger().handlers)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        show = warnings.showwarning
        with rank_log(tmp_path / "outer.log", rank=0):
            with rank_log(tmp_path / "inner.log", rank=0):
                warnings.warn("within", stacklevel=1)
            warnings.warn("after", stacklevel=1)
        assert warnings.showwarning is show
    outer = (tmp_path / "outer.log").read_text()
    assert "UserWarning: within" in outer
    assert "UserWarning: after" in outer
    assert "UserWarning: within" in (tmp_path / "inner.log").read_text()
    assert before == (warnings.showwarning, logging.getLogger().level, logging.getLogger().handlers)


def test_logging_is_as_before_after_an_error(tmp_path):
    handlers = list(logging.getLogger().handlers)
    with pytest.raises(RuntimeError, match="stop"), rank_log(tmp_path / "rank-0.log", rank=0):
        raise RuntimeError("stop")
    assert logging.getLogger().handlers == handlers


def test_a_log_that_cannot_be_opened_is_said(tmp_path):
    (tmp_path / "logs").write_text("")
    with (
        pytest.raises(ResourceError, match="A file is in the way: could not open the log file"),
        rank_log(tmp_path / "logs" / "rank-0.log", rank=0),
    ):
        pass
