"""Answers as values: kept out of the model's reach, held against their references, told apart by a digest.

A number, a text or a container is what Python takes it for; of an array, a tensor or a table, wherever it lies, the shape counts.
Libraries are known by what their objects have, or by a module that is loaded: none is imported here but numpy, at work.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import hashlib
import re
import sys
from collections import UserDict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from types import SimpleNamespace
from typing import Any

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.values.run import ANSWER_DIGITS

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence

Attributes = Mapping[str, Any]  # what an object holds, by name
ATOMS = frozenset({str, int, float, bool, complex, bytes, type(None)})  # what nobody can change
ROWS = (list, tuple, deque)
ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")  # in the repr of an object: another one in each process
# What a repr says that says nothing of what is in an object: '<pkg.Result object at 0x7f…>', '<function answer at …>'.
NAMELESS = re.compile(r"<(?:[\w.<>]+ object(?: [\w.<>]+)?|memory|function [\w.<>]+) at 0x[0-9a-fA-F]+>")

NAMELESS_OBJECT = re.compile(r"<(?:\w+\.)*(?:<locals>\.)?(\w+) object at 0x[0-9a-fA-F]+>")  # within another one
DEEP = 4  # containers within containers of an answer that are looked into
LEFT_OUT = "..."  # of a long array or tensor, in a repr


class UntoldError(Exception):
    """Nothing shows of an object what is in it: two of them cannot be told apart. ``args`` holds the name of its class."""


# --- kept -------------------------------------------------------------------------------------------------------------


class Keeper:
    """Keeps the answers of one pass as they were when they came: a model may use its memory again for the next batch."""

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        self._seen: dict[int, Attributes] = {}

    def rows(self, batch: Any) -> list[Any]:
        """The answers of a batch as a list, each ``keep``-ed."""
        found = _copied(batch, self.keep)
        return [self.keep(each) for each in batch] if found is None else list(found)

    def keep(self, answer: Any) -> Any:
        """The answer, with whatever could be overwritten copied: arrays, tensors, tables, and the containers that hold them.

        An object of a class of its own that is the same as its equal, and no other, stays itself. Raises SettingsError where such a one
        comes again with something else in it.
        """
        if type(answer) in ATOMS:
            return answer
        if isinstance(answer, dict | UserDict | tuple | list | deque | set | bytearray):
            return self._container(answer)
        found = _copied(answer, self.keep)
        return self._object(answer) if found is None else found

    def _container(self, answer: Any) -> Any:
        kind = type(answer)
        if isinstance(answer, dict | UserDict):
            changed = copy.copy(answer)
            for key, value in answer.items():
                if (kept := self.keep(value)) is not value:
                    changed[key] = kept
            return changed
        if isinstance(answer, tuple):
            if ATOMS.issuperset(map(type, answer)):
                return answer
            rows = [self.keep(each) for each in answer]
            # A named tuple, a structure of torch's or numpy's; a class of somebody's own may be made in any other way.
            return kind._make(rows) if hasattr(kind, "_make") else kind(rows) if kind is tuple or hasattr(kind, "n_fields") else answer
        changed = copy.copy(answer)
        if isinstance(answer, list | deque) and not ATOMS.issuperset(map(type, answer)):
            for place, each in enumerate(answer):
                changed[place] = self.keep(each)
        return changed

    def _object(self, answer: Any) -> Any:
        fields = _fields(answer)
        if fields is not None:
            changed = copy.copy(answer)
            for name, value in fields.items():
                if (kept := self.keep(value)) is not value:
                    object.__setattr__(changed, name, kept)
            return changed
        holds = getattr(answer, "__dict__", None)
        if type(holds) is dict and holds:
            before = self._seen.setdefault(id(answer), dict(holds))
            if any(name not in holds or (holds[name] is not value and not equal(holds[name], value)) for name, value in before.items()):
                raise SettingsError(
                    f"The model returned the same {type(answer).__name__} again, with something else in it: the earlier answer is lost.",
                    remedy="Return a new one each time.",
                )
        return answer


def _copied(answer: Any, keep: Callable[[Any], Any]) -> Any:
    """A copy of an array, a tensor, a table or a sparse matrix; None for anything else."""
    if _is_array(answer):
        import numpy as np

        return np.frompyfunc(keep, 1, 1)(answer) if answer.dtype == object and answer.ndim else answer.copy("K")
    if _is_tensor(answer):
        return answer.clone()
    if hasattr(answer, "iloc") or hasattr(answer, "toarray") or hasattr(answer, "__cuda_array_interface__"):
        return answer.copy()
    if hasattr(answer, "ortvalue_from_numpy") and answer.is_tensor() and answer.device_name() == "cpu":
        return type(answer).ortvalue_from_numpy(answer.numpy().copy())  # an output of ONNX Runtime's that is bound to memory
    return None


# --- equal ------------------------------------------------------------------------------------------------------------


def equal(one: Any, other: Any) -> bool:
    """Whether an answer is the reference: the same values in the same shape, all the way down; nothing is broadcast.

    A list, a tuple, an array and a tensor of the same shape may hold the same; a list is no tuple, and a text no list of letters, as in
    Python. Of two tables the labels count, of two masked arrays the masks. A NaN (None of numbers) equals nothing, not even itself.
    Raises whatever ``==`` raises, and TypeError where that says neither yes nor no.
    """
    if type(one) in ATOMS and type(other) in ATOMS:
        return bool(one == other)
    if not same_labels(one, other):
        return False
    one, other = opened(one), opened(other)
    arrays = _is_array(one), _is_array(other)
    if any(arrays):
        return _equal_arrays(one, other) if all(arrays) else _equal_rows(one, other) if arrays[0] else _equal_rows(other, one)
    return _equal_plain(one, other)


def _equal_plain(one: Any, other: Any) -> bool:
    """``equal`` of two that are no arrays, though they may hold some."""
    one, other = _number(one, other), _number(other, one)
    if isinstance(one, ROWS) and isinstance(other, ROWS):
        alike = any(isinstance(one, kind) and isinstance(other, kind) for kind in ROWS)
        return alike and len(one) == len(other) and all(map(equal, one, other))
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(equal(value, other[key]) for key, value in one.items())
    if isinstance(one, AbstractSet) and isinstance(other, AbstractSet):
        return one == other and all(map(equal, one, one))
    mine, its = _fields(one), _fields(other)
    if mine is not None and its is not None:
        return type(one) is type(other) and equal(mine, its)
    return _truth(one, other)


def _number(value: Any, beside: Any) -> Any:
    """A number of numpy's as Python's beside a container, over which it would be spread; a record of a structured array is a tuple."""
    spread = _of_numpy(value, "generic") and isinstance(beside, (*ROWS, Mapping, AbstractSet, range))
    return value.item() if spread else value


def same_labels(one: Any, other: Any) -> bool:
    """Whether two tables have the same index and columns; so, too, where one of them is no table."""
    ours, theirs = labels(one), labels(other)
    return not (ours and theirs) or (len(ours) == len(theirs) and all(map(equal, ours, theirs)))


def _equal_arrays(one: Any, other: Any) -> bool:
    import numpy as np

    if one.shape != other.shape:
        return False
    if np.ma.isMaskedArray(one) or np.ma.isMaskedArray(other):
        here = ~np.ma.getmaskarray(one)
        return np.array_equal(here, ~np.ma.getmaskarray(other)) and _equal_arrays(np.ma.getdata(one)[here], np.ma.getdata(other)[here])
    kinds = {one.dtype.kind, other.dtype.kind}
    if kinds <= set("biufc") or (len(kinds) == 1 and kinds <= set("SUmM")):
        return bool((one == other).all())
    return all(map(equal, np.asarray(one).ravel(), np.asarray(other).ravel()))


def _equal_rows(array: Any, other: Any) -> bool:
    """Whether an array, without a shape or with rows, is ``other``, which is no array."""
    if array.ndim == 0:
        found = array[()]
        return not _is_array(found) and equal(found, other)  # masked, it stays an array
    if not isinstance(other, (*ROWS, range)) or len(array) != len(other):
        return False
    return all(map(equal, array, other)) if len(array) else array.ndim == 1  # an empty list is one dimension of nothing


def _truth(one: Any, other: Any) -> bool:
    """What ``==`` says, where it says yes or no."""
    same = one == other
    if isinstance(same, bool) or _of_numpy(same, "bool_"):
        return bool(same)
    if type(same).__name__ == "NAType":  # of pandas: what is missing equals nothing
        return False
    if getattr(same, "shape", ()) != ():
        raise TypeError(f"== returned a {type(same).__name__}, which is neither true nor false")
    return bool(same)


def unlike_shapes(answers: Sequence[Any], references: Sequence[Any]) -> tuple[str, ...]:
    """A note where no answer has the shape of its reference, though there is one in it: none of them can be right."""
    first = None
    for answer, reference in zip(answers, references, strict=False):
        shapes = _shape(answer), _shape(reference)
        if None in shapes or shapes[0] == shapes[1]:
            return ()
        first = shapes if first is None else first
    return (
        ()
        if first is None
        else (f"no answer has the shape of its reference, the first {first[0]} instead of {first[1]}: none can equal it",)
    )


def _shape(value: Any) -> tuple[int, ...] | None:
    value = opened(value)
    if isinstance(value, int | float | str):
        return ()
    return (
        tuple(value.shape) if _is_array(value) else (len(value), *(_shape(value[0]) or ())) if isinstance(value, list) and value else None
    )


# --- told apart -------------------------------------------------------------------------------------------------------


def digests(outputs: Sequence[Any]) -> str:
    """A digest of each answer (``run.ANSWER_DIGITS`` digits), in order: tells answers apart without keeping them.

    Numbers with a fraction count to four digits, since the last ones change with a library's version, arrays and tensors by their values.
    Empty where some answer is an object that shows nothing of what is in it (``untold``).
    """
    try:
        return "".join(map(digest, outputs))
    except UntoldError:
        return ""


def untold(outputs: Sequence[Any]) -> str:
    """The class of the first thing in ``outputs`` that shows nothing of what is in it; empty where there is none."""
    try:
        for each in outputs:
            text_of(each)
    except UntoldError as error:
        return str(error)
    return ""


def digest(answer: Any) -> str:
    """The digest of one answer. Raises UntoldError."""
    return hashlib.blake2b(text_of(answer).encode("utf-8", "replace"), digest_size=ANSWER_DIGITS // 2).hexdigest()


def text_of(answer: Any) -> str:
    """An answer in words that are the same in every process, and others for another answer. Raises UntoldError."""
    if isinstance(answer, float | complex) or type(answer) in ATOMS:
        return _text_of_number(answer) if isinstance(answer, float | complex) else repr(answer)
    if isinstance(answer, Mapping):
        return f"{{{','.join(sorted(f'{_text_of_key(key)}:{text_of(each)}' for key, each in answer.items()))}}}"
    if isinstance(answer, ROWS):
        return f"[{','.join(map(text_of, answer))}]"
    if isinstance(answer, AbstractSet):
        return f"{{{', '.join(sorted(map(text_of, answer)))}}}" if answer else "set()"  # texts have another order in each process
    held = opened(answer)
    if _is_array(held):
        return _text_of_table(answer, held) if labels(answer) else _text_of_array(held, sparse=_is_sparse(answer))
    return _text_of_object(answer) if held is answer else text_of(held)


def _text_of_number(number: complex) -> str:
    if isinstance(number, float):
        return f"{number + 0.0:.4g}"  # -0.0 is 0.0
    return f"({_text_of_number(number.real)}, {_text_of_number(number.imag)}j)"


def _text_of_key(key: Any) -> str:
    """A key of a dict: in full, since keys are told apart by their last digit; 1.0 is the key 1."""
    if not isinstance(key, float):
        return text_of(key)
    return repr(int(key)) if key.is_integer() else repr(float(key))


def _text_of_array(array: Any, *, sparse: bool) -> str:
    if sparse:  # a row of thirty thousand words is nearly all zeros
        flat = array.ravel()
        places = flat.nonzero()[0]
        return f"{array.shape}{text_of(places.tolist())}{text_of(flat[places].tolist())}"
    # Of nothing, lists do not tell the shape: [] is that of (0,), (0, 3) and (0, 5).
    return f"[]{array.shape}" if array.size == 0 and array.ndim > 1 else text_of(array.tolist())


def _text_of_table(table: Any, held: Any) -> str:
    """A table or column with its labels; a column whose rows are only numbered by its values."""
    first, *columns = labels(table)
    numbered = not columns and type(first).__name__ == "RangeIndex" and (first.start, first.step) == (0, 1)
    shown = () if numbered else (list(first), *map(list, columns))
    return "".join(map(text_of, (*shown, table.tolist() if hasattr(table, "tolist") else held.tolist())))


def _text_of_object(answer: Any) -> str:
    plain = answer.tolist() if hasattr(answer, "tolist") else answer
    if type(plain) is not type(answer):
        return text_of(plain)
    fields = _fields(answer) or _shown(answer)
    if fields is not None:
        return _text_of_fields(answer, fields)
    if hasattr(answer, "getpalette"):  # an image of Pillow's shows its size alone
        return f"{answer.mode}{answer.size}{hashlib.blake2b(answer.tobytes()).hexdigest()}{answer.getpalette()}"
    said = answer.tobytes().hex() if isinstance(answer, memoryview) else repr(answer)
    if NAMELESS.fullmatch(said):
        raise UntoldError(type(answer).__name__)
    if LEFT_OUT in said and (holds := fields_of(answer)):
        with contextlib.suppress(UntoldError):
            return _text_of_fields(answer, holds)
    if inside := NAMELESS_OBJECT.search(said):  # answers that differ in it alone would be one
        raise UntoldError(inside[1])
    return ADDRESS.sub("", said)  # which is another one in each process


def _text_of_fields(answer: Any, fields: Attributes) -> str:
    return f"{type(answer).__qualname__}({', '.join(f'{name}={text_of(each)}' for name, each in fields.items())})"


# --- what things are --------------------------------------------------------------------------------------------------


def _is_tensor(value: Any) -> bool:
    torch: Any = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def _is_array(value: Any) -> bool:
    return _of_numpy(value, "ndarray")


def _of_numpy(value: Any, *classes: str) -> bool:
    """Whether a value is of one of these classes of numpy's, which is not imported to find out."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, tuple(getattr(numpy, name) for name in classes))


def _is_sparse(value: Any) -> bool:
    return hasattr(value, "toarray") or (_is_tensor(value) and str(value.layout) not in {"torch.strided", "torch.jagged"})


def opened(value: Any) -> Any:
    """What holds an array as numpy's array, a ragged tensor as the list of its rows; anything else as it is."""
    if type(value) in ATOMS or isinstance(value, Mapping | list | tuple) or _of_numpy(value, "ndarray", "generic"):
        return value
    if _is_tensor(value):
        return _opened_tensor(value)
    if hasattr(value, "toarray"):
        return value.toarray()
    if hasattr(value, "__cuda_array_interface__") and callable(getattr(value, "get", None)):
        return value.get()  # CuPy's, which refuse to be taken for numpy's unasked
    if not hasattr(value, "__array__"):
        return value
    import numpy as np

    return np.asarray(value)


def _opened_tensor(tensor: Any) -> Any:
    tensor = tensor.detach()
    if tensor.is_nested:
        return [_opened_tensor(each) for each in tensor.unbind()]
    if tensor.is_quantized:
        tensor = tensor.dequantize()
    if _is_sparse(tensor):
        tensor = tensor.to_dense()
    tensor = tensor.cpu().resolve_conj().resolve_neg()
    try:
        return tensor.numpy()
    except TypeError:  # numpy has no bfloat16, and no complex numbers of half precision
        return (tensor.cfloat() if tensor.is_complex() else tensor.float()).numpy()


def labels(value: Any) -> tuple[Any, ...]:
    """The index and the columns of a table, the index of a column; of anything else nothing."""
    if type(value) in ATOMS or not hasattr(value, "__array__"):
        return ()
    names = ("index", "columns") if hasattr(value, "iloc") else ("columns",)
    return tuple(getattr(value, name) for name in names if hasattr(value, name))


def fields_of(value: Any) -> Attributes:
    """What a dataclass, or an object of a class of somebody's own, holds by name; nothing of anything else."""
    holds = getattr(value, "__dict__", None)
    return _fields(value) or (holds if type(holds) is dict and not isinstance(value, type) else {})


def held_in(answer: Any) -> Iterable[Any]:
    """What an answer holds: the items of a list, the values of a dict, the fields of an object."""
    if isinstance(answer, list | tuple):
        return answer
    return answer.values() if isinstance(answer, dict) else fields_of(answer).values()


def _shown(value: Any) -> Attributes | None:
    """The fields of a dataclass that has no ``==`` by them, but the ``repr`` that shows them: long arrays in part, and with all digits."""
    params: Any = vars(type(value)).get("__dataclass_params__")
    told = params is not None and params.repr
    return {each.name: getattr(value, each.name) for each in dataclasses.fields(value) if each.repr} if told else None


def _fields(value: Any) -> Attributes | None:
    """What an object is equal by, of a class that compares its fields; None where it compares by its own code, or not at all."""
    kind: Any = type(value)
    written = getattr(getattr(kind.__eq__, "__code__", None), "co_filename", "<")
    if isinstance(value, SimpleNamespace):
        return dict(sorted(vars(value).items()))  # equal in every order, as a dict is
    if not written.startswith("<"):  # code of a file, not made by a decorator
        return {name: getattr(value, name) for name in kind.model_fields} if kind.__eq__.__module__ == "pydantic.main" else None
    if kind.__eq__ is object.__eq__:
        return None
    if dataclasses.is_dataclass(value):
        return {each.name: getattr(value, each.name) for each in dataclasses.fields(value) if each.compare}
    if hasattr(kind, "__attrs_attrs__"):
        return {each.name: getattr(value, each.name) for each in kind.__attrs_attrs__ if each.eq}
    return None
