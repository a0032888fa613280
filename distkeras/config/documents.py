"""Strict YAML in and out: what a config file says, as plain values, and nothing guessed.

Scalars follow the core schema of YAML 1.2 (https://yaml.org/spec/1.2.2/#103-core-schema). PyYAML follows 1.1:
there `no` is False, `1e-3` is text, `010` is 8, `1:30` is 90 and a date is an object, and the last of two
equal keys wins in silence.
"""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from distkeras.errors import ConfigError

Plain = bool | int | float | str | list["Plain"] | dict[str, "Plain"] | None
Document = dict[str, Plain]

# PyYAML reads some 300 kB a second; a config is a few kB.
MAX_FILE_BYTES = 250_000
MAX_DEPTH = 20

_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(
    r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)
_WORDS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


def read_document(path: Path) -> Document:
    """Returns what the config file at `path` says.

    Args:
        path: A UTF-8 YAML file of at most 250 kB whose top level is a mapping.

    Raises:
        ConfigError: The file cannot be read, is not strict YAML, or is not a mapping.
    """
    return parse_document(_decode(_read(path), path), str(path))


def parse_document(text: str, origin: str) -> Document:
    """Returns what YAML `text` says; `origin` names it in errors.

    Raises:
        ConfigError: The text is empty, not strict YAML, or not a mapping.
    """
    value = _parse(text, lambda line: origin if line is None else f"{origin}, line {line}")
    if value is None:
        raise ConfigError(
            "The config is empty.", place=origin, remedy="A config needs at least task, data and model."
        )
    if not isinstance(value, dict):
        raise ConfigError(
            f"The top level of a config is a mapping of keys, not {_kind(value)}.",
            place=origin,
            received=value,
        )
    return value


def parse_value(text: str, argument: str) -> Plain:
    """Returns the value that follows `=` in a `--set` argument.

    Args:
        text: A YAML scalar or flow collection: `3`, `1e-3`, `[28, 28]`, `{name: adamw}`.
        argument: The whole argument, for errors.

    Raises:
        ConfigError: The text is not strict YAML.
    """
    try:
        return _parse(text, lambda _: f"--set {argument}")
    except ConfigError as error:
        key = argument.partition("=")[0]
        remedy = error.remedy or f"""Quote text with special characters: --set '{key}="..."'"""
        raise ConfigError(error.problem, place=error.place, received=text, remedy=remedy) from error


def value_at(document: Document, key: Sequence[str]) -> Plain:
    """Returns the value at a dotted key's parts; null where there is none."""
    value: Plain = document
    for part in key:
        value = value.get(part) if isinstance(value, dict) else None
    return value


def render_document(document: Mapping[str, Any]) -> str:
    """Returns YAML that `parse_document` reads back to the same values, keys in the given order."""
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=sys.maxsize)


class _Loader(yaml.SafeLoader):
    """Composes nodes only from what a config needs: no aliases, no tags, bounded depth."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()
        # An alias to a list of aliases grows exponentially (the "billion laughs"); a tag names a Python type.
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise _problem("Anchors (&) and aliases (*) are not supported; write the value out.", event)
        if getattr(event, "tag", None) is not None:
            raise _problem("Tags (!) are not supported; write a plain value.", event)
        if self.depth == MAX_DEPTH:
            raise _problem(f"Values are nested more than {MAX_DEPTH} deep.", event)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


class _Dumper(yaml.SafeDumper):
    """Quotes text that YAML 1.1 or 1.2 would read as something else, so that every reader sees text."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    # PyYAML 6.0.3 writes U+0085 and U+2028 bare in single quotes, and reads them back as a space.
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if text.isprintable() else '"')


_Dumper.add_representer(str, _represent_text)
for _tag, _pattern in (("tag:yaml.org,2002:int", _INTEGER), ("tag:yaml.org,2002:float", _FLOAT)):
    _Dumper.add_implicit_resolver(_tag, re.compile(f"^(?:{_pattern.pattern})$"), list("-+.0123456789"))


def _parse(text: str, place: Callable[[int | None], str]) -> Plain:
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        return None if node is None else _value(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise ConfigError(_sentence(error), place=place(mark.line + 1 if mark else None)) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError(
            f"The character U+{ord(text[error.position]):04X} is not allowed in YAML.",
            place=place(line),
            remedy="Remove it, or write it as an escape in double quotes.",
        ) from error


def _value(node: yaml.Node) -> Plain:
    match node:
        case yaml.MappingNode():
            return _mapping(node)
        case yaml.SequenceNode():
            return [_value(item) for item in node.value]
        case _:
            return _scalar(node)


def _mapping(node: yaml.MappingNode) -> Document:
    result: Document = {}
    for key_node, value_node in node.value:
        key = _value(key_node)
        if isinstance(key, bool) or not isinstance(key, str | int):
            raise _problem("A key must be text or a whole number.", key_node)
        # JSON, which validation goes through, has only text keys: 0 and "0" are the same key.
        if str(key) in result:
            raise _problem(f"The key {str(key)!r} appears twice.", key_node)
        result[str(key)] = _value(value_node)
    return result


def _scalar(node: yaml.Node) -> Plain:
    text: str = node.value
    if node.style is not None:
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return _integer(text, node)
    if _FLOAT.fullmatch(text):
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    return text


def _integer(text: str, node: yaml.Node) -> int:
    try:
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    except ValueError as error:
        raise _problem(f"The number has {len(text)} digits.", node) from error


def _problem(sentence: str, where: yaml.Event | yaml.Node) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=sentence, problem_mark=where.start_mark)


def _sentence(error: yaml.MarkedYAMLError) -> str:
    problem = error.problem or "unknown"
    if problem.endswith("."):
        return problem
    if r"'\t'" in problem:
        return "A tab stands where YAML allows only spaces."
    if "but found another document" in problem:
        return "The config holds more than one YAML document (---)."
    return f"Not valid YAML: {problem}."


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError as error:
        raise ConfigError(
            "The config file does not exist.", place=str(path), remedy=_similar_file(path)
        ) from error
    except IsADirectoryError as error:
        raise ConfigError(
            "The config path is a folder, not a file.", place=str(path), remedy="Name the YAML file in it."
        ) from error
    except PermissionError as error:
        raise ConfigError(
            "No permission to read the config file.",
            place=str(path),
            remedy="Check its owner and mode (ls -l).",
        ) from error
    except (OSError, ValueError) as error:
        raise ConfigError(f"The config file cannot be read: {error}.", place=str(path)) from error
    if len(data) > MAX_FILE_BYTES:
        raise ConfigError(
            f"The config file is larger than {MAX_FILE_BYTES:,} bytes.",
            place=str(path),
            remedy="Check that it is a config and not data.",
        )
    return data


def _similar_file(path: Path) -> str:
    names = [file.name for file in path.parent.glob("*.y*ml")]
    if close := difflib.get_close_matches(path.name, names, n=1):
        return f"Did you mean {path.parent / close[0]}?"
    return "Check --config; a relative path starts at the working directory."


def _decode(data: bytes, path: Path) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            "The config file is not UTF-8 text.",
            place=f"{path}, line {line}",
            remedy="Save it as UTF-8.",
        ) from error


def _kind(value: Plain) -> str:
    return "a list" if isinstance(value, list) else "a single value"
