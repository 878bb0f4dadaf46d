"""The rules of CloudEvents 1.0 and its JSON format, as far as a whole event can break them."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import urlsplit

_NAME = re.compile(r"[a-z0-9]{1,20}")
_URI_REFERENCE = re.compile(r"(?:[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+")
_TIME = re.compile(
    r"\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])[Tt](?:[01]\d|2[0-3]):[0-5]\d:(?:[0-5]\d|60)"
    r"(?:\.\d+)?(?:[Zz]|[+-](?:[01]\d|2[0-3]):[0-5]\d)"
)
_MEDIA_TYPE = re.compile(r"[a-z]+/[a-z0-9.+-]+(?:;.*)?", re.IGNORECASE)
_REQUIRED = ("id", "source", "specversion", "type")
_DATA = ("data", "data_base64")


def broken_rules(event: dict[str, Any]) -> list[str]:
    """What is wrong with an event in the JSON format; empty if nothing is."""
    found = [f"{name} is required" for name in _REQUIRED if name not in event]
    attributes = {name: value for name, value in event.items() if name not in _DATA}
    found += [f"{name!r} names no attribute" for name in attributes if not _NAME.fullmatch(name)]
    for name, value in attributes.items():
        found += [f"{name} {problem}" for problem in _of_value(value)]
    for name in (*_REQUIRED, "subject", "time", "datacontenttype", "dataschema", "partitionkey"):
        value = attributes.get(name, "present")
        if not isinstance(value, str) or not value:
            found.append(f"{name} is not a text with at least one character")
    found += _of_meaning(attributes)
    if all(name in event for name in _DATA):
        found.append("there are two kinds of data")
    try:
        json.dumps(event, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        found.append(f"it is not JSON: {error}")
    return found


def _of_value(value: Any) -> list[str]:
    """The types of attributes are Boolean, Integer of 32 bits, and text of several meanings."""
    if isinstance(value, bool):
        return []
    if isinstance(value, int):
        return [] if -(2**31) <= value < 2**31 else ["is a number of more than 32 bits"]
    if not isinstance(value, str):
        return [f"is of no type of CloudEvents: {type(value).__name__}"]
    return [f"has the character U+{ord(each):04X}" for each in value if _is_forbidden(ord(each))]


def _is_forbidden(code: int) -> bool:
    is_control = code <= 0x1F or 0x7F <= code <= 0x9F
    is_surrogate = 0xD800 <= code <= 0xDFFF
    is_no_character = 0xFDD0 <= code <= 0xFDEF or code & 0xFFFE == 0xFFFE
    return is_control or is_surrogate or is_no_character


def _of_meaning(attributes: dict[str, Any]) -> list[str]:
    found = []
    if attributes.get("specversion") != "1.0":
        found.append("specversion is not 1.0")
    if not _URI_REFERENCE.fullmatch(str(attributes.get("source"))):
        found.append("source is not a URI-reference")
    schema = attributes.get("dataschema")
    if schema is not None and not urlsplit(str(schema)).scheme:
        found.append("dataschema is not an absolute URI")
    time = attributes.get("time")
    if time is not None and not _TIME.fullmatch(str(time)):
        found.append("time is not of RFC 3339")
    kind = attributes.get("datacontenttype")
    if kind is not None and not _MEDIA_TYPE.fullmatch(str(kind)):
        found.append("datacontenttype is not a media type")
    if "tracestate" in attributes and "traceparent" not in attributes:
        found.append("there is a tracestate without a traceparent")
    return found
