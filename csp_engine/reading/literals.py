"""Values as Python, numpy and torch print them: lists in cells of tables, read and never run."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from typing import Any

__all__ = ["NotWholeError", "literal"]

_MOST_LETTERS = 1_000_000
_CONSTANTS: dict[str, Any] = {
    "nan": float("nan"), "NaN": float("nan"), "inf": float("inf"), "null": None, "true": True,
    "false": False,
}  # fmt: skip
_OF_SEVERAL = frozenset({"array", "tensor", "list", "tuple", "set", "frozenset", "Index", "deque"})
_OF_ONE = re.compile(r"(str_|float\d*|int\d*|uint\d+|bfloat16)$")
_OF_NAMES = frozenset({"dict", "Counter", "OrderedDict"})
_BEGINS = re.compile(r"[\[({]|(\w+\.)*(array|tensor|Counter|OrderedDict|set|Index|\w+\d+|str_)\(")


class NotWholeError(ValueError):
    """A printed value that lacks a part, or may be read in two ways; says which and what to do."""


def literal(text: str) -> Any:
    """What a printed value is: numbers, texts, lists (also of tuples, sets and arrays) and dicts.

    Understood are Python's own spelling, numpy's without commas (``['a' 'b']``, ``[0.5 -1.]``), and
    the names that both and torch put around values (``array(…)``, ``np.float64(0.5)``,
    ``tensor(0.5, device='cuda:0')``). Nothing is called.

    Raises:
        NotWholeError: if numpy left values out (``...``), or only some commas are there.
        ValueError: if it is not the spelling of a value.
    """
    text = text.strip()
    if len(text) > _MOST_LETTERS or not _BEGINS.match(text):
        raise ValueError("no printed value")
    text = re.sub(r",\s*grad_fn=<\w*>", "", text)
    try:
        return _value(ast.parse(_with_commas(text), mode="eval").body)
    except (SyntaxError, tokenize.TokenError, TypeError, RecursionError, MemoryError) as error:
        raise ValueError(str(error)) from error


def _with_commas(text: str) -> str:
    """The text with commas between values that only blanks divide, as numpy prints them."""
    found: list[str] = []
    levels: list[list[bool]] = []  # of each open bracket: has it commas, did it lack one
    last_ends_value, end = False, (1, 0)
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in (tokenize.NL, tokenize.NEWLINE, tokenize.ENDMARKER, tokenize.COMMENT):
            found.append(" ")
            continue
        is_text_or_number = token.type in (tokenize.STRING, tokenize.NUMBER)
        is_sign = token.string in ("-", "+") and token.start != end and _is_close(text, token)
        begins = is_text_or_number or token.type == tokenize.NAME or token.string in ("[", "...")
        begins = begins or is_sign or (token.string == "(" and token.start != end)
        if last_ends_value and begins and levels and levels[-1][2]:
            if token.start == end:
                raise NotWholeError(
                    "a list with two texts or numbers that nothing divides; write a comma between "
                    "them, and a backslash before a quotation mark inside a text"
                )
            found.append(",")
            levels[-1][1] = True
        if token.string in ("[", "(", "{"):
            levels.append([False, False, token.string == "["])
        elif token.string in ("]", ")", "}") and levels:
            has_commas, lacks_some, _ = levels.pop()
            if has_commas and lacks_some:
                raise NotWholeError(
                    "a list with a comma between some of its texts and none between others; write "
                    "one between every two"
                )
        elif token.string == "," and levels:
            levels[-1][0] = True
        found.append(token.string)
        last_ends_value = is_text_or_number or token.string in ("]", ")", "}", "...") or (
            token.type == tokenize.NAME and token.string in {*_CONSTANTS, "None", "True", "False"}
        )  # fmt: skip
        end = token.end
    return "".join(f" {each}" if each[0].isalnum() else each for each in found).strip()


def _is_close(text: str, token: tokenize.TokenInfo) -> bool:
    """Whether a sign stands right before what it belongs to."""
    row, column = token.end
    return not text.split("\n")[row - 1][column : column + 1].isspace()


def _value(node: ast.expr) -> Any:
    match node:
        case ast.Constant(value=value):
            if value is ...:
                raise NotWholeError(
                    "a list from which '...' leaves values out; write all of them "
                    "(numpy.set_printoptions(threshold=sys.maxsize))"
                )
            if value is None or isinstance(value, str | int | float):
                return value
        case ast.List(elts=own) | ast.Tuple(elts=own) | ast.Set(elts=own):
            return [_value(each) for each in own]
        case ast.Dict(keys=keys, values=values) if None not in keys:
            pairs = zip(keys, values, strict=True)
            return {_key(_value(key)): _value(value) for key, value in pairs if key is not None}
        case ast.UnaryOp(op=ast.USub() | ast.UAdd() as sign, operand=operand):
            number = _value(operand)
            if isinstance(number, int | float):
                return -number if isinstance(sign, ast.USub) else number
        case ast.Name(id=name) if name in _CONSTANTS:
            return _CONSTANTS[name]
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name), args=args):
            return _wrapped(name, [_value(each) for each in args[:1]])
    raise ValueError("no printed value")


def _wrapped(name: str, held: list[Any]) -> Any:
    """What stands in a name's brackets, if the name only says of what type it is."""
    if name in _OF_SEVERAL or _OF_ONE.match(name):
        return held[0] if held else []
    if name in _OF_NAMES and held:
        pairs = held[0]
        if isinstance(pairs, list):
            return {_key(key): value for key, value in pairs}
        return pairs
    raise ValueError("no printed value")


def _key(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
