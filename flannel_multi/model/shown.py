"""Foreign values in a log line."""

from __future__ import annotations

import json
from typing import Any


class Float(float):
    """A number written with a fraction or an exponent: never an integer, whatever its value, and shown as written."""

    def __new__(cls, text: str) -> Float:
        self = super().__new__(cls, text)
        self.text = text
        return self

    text: str


def show(value: Any) -> str:
    """`value` as JSON for a log line: at most 60 characters, printable ASCII only, so without line breaks."""
    if isinstance(value, Float):
        text = value.text
    else:
        try:
            text = json.dumps(value).replace("\x7f", "\\u007f")
        except (ValueError, TypeError, RecursionError):
            return f"a {type(value).__name__} too large to show"
    return text if len(text) <= 60 else text[:57] + "..."
