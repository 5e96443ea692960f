"""For the reference pages: a figure of a run (``MetricProperty("…")``) is documented by what it is made with, as ``help()`` has it."""

from __future__ import annotations

import ast
from typing import Any

from griffe import Attribute, Docstring, ExprCall, Extension


class Figures(Extension):
    """Reads the argument of ``MetricProperty`` as the attribute's docstring."""

    def on_attribute_instance(self, *, attr: Attribute, **_: Any) -> None:
        value = attr.value
        if isinstance(value, ExprCall) and str(value.function) == "MetricProperty":
            attr.docstring = Docstring(ast.literal_eval(str(value.arguments[0])), parent=attr)
            attr.annotation, attr.value = "Estimate", None
            attr.labels.clear()  # "class-attribute", which nobody asks about
