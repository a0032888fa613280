"""The config of a run: typed sections, a strict loader, and everything that is done with a valid config."""

from distkeras.config.canonical import ABSENT, diff, dump_yaml, identity, schema, to_mapping
from distkeras.config.loader import config_from_mapping, load_config
from distkeras.config.problems import InvalidConfigError, Problem
from distkeras.config.sections import Config

__all__ = [
    "ABSENT",
    "Config",
    "InvalidConfigError",
    "Problem",
    "config_from_mapping",
    "diff",
    "dump_yaml",
    "identity",
    "load_config",
    "schema",
    "to_mapping",
]
