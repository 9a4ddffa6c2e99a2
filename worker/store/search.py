"""The search of the runs table: ``state:done tag:prod (int4 OR int3) not owner:ana "two words"``.

Words and ``field:value`` side by side must all hold; ``OR`` and parentheses make alternatives; ``not`` turns one
round. A word is looked for in name, id, owner, tags, model and schemes; upper and lower case are the same. A recipe
is a word with its colons: ``int4+gptq:act_order=true``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, TypeAlias

from lark import Lark, Token, Transformer, UnexpectedInput, UnexpectedToken, v_args
from lark.exceptions import VisitError

from quant_lens_engine.schema import TERMINAL_STATES
from worker.store.errors import BadQuery

Facts: TypeAlias = Mapping[str, tuple[str, ...]]
"""A run as the search sees it: field -> its values, in lower case."""
Condition: TypeAlias = Callable[[Facts], bool]

EXACT_FIELDS = ("state", "tag", "owner", "id")
PARTIAL_FIELDS = ("name", "scheme", "model", "data")
_STATES = frozenset(state.lower() for state in TERMINAL_STATES | {"QUEUED", "RUNNING"})
_HINT = (
    f"words, and field:value with {', '.join(EXACT_FIELDS + PARTIAL_FIELDS)}; `not`, `OR` and ( ); "
    "quotes around words with spaces"
)

_GRAMMAR = r"""
    start: any
    ?any: all ("OR" all)*
    ?all: item+
    ?item: _NOT item      -> negation
         | "(" any ")"
         | FIELD value    -> field
         | value          -> word
    value: QUOTED | RECIPE | WORD
    _NOT.3: /(not|NOT)(?=[\s(])/
    FIELD.2: /[A-Za-z_]+:/
    QUOTED: /"[^"]*"/
    RECIPE.3: /[A-Za-z0-9-]+[+\[][^\s()"]+/
    WORD: /[^\s()":]+/
    %ignore /\s+/
"""


@v_args(inline=True)
class _Conditions(Transformer[Token, Condition]):
    def start(self, condition: Condition) -> Condition:
        return condition

    def value(self, token: Token) -> str:
        return str(token).strip('"').lower()

    def any(self, *parts: Condition) -> Condition:
        return lambda facts: any(part(facts) for part in parts)

    def all(self, *parts: Condition) -> Condition:
        return lambda facts: all(part(facts) for part in parts)

    def negation(self, part: Condition) -> Condition:
        return lambda facts: not part(facts)

    def word(self, text: str) -> Condition:
        return lambda facts: any(text in value for values in facts.values() for value in values)

    def field(self, field: Token, text: str) -> Condition:
        name = field.rstrip(":").lower()
        if name == "state" and text not in _STATES:
            raise BadQuery(f"there is no state {text!r}", hint=f"states are {', '.join(sorted(_STATES))}")
        if name in EXACT_FIELDS:
            return lambda facts: text in facts[name]
        if name in PARTIAL_FIELDS:
            return lambda facts: any(text in value for value in facts[name])
        raise BadQuery(f"there is no field {name!r} to search", hint=_HINT)


@cache
def _parser() -> Lark:
    return Lark(_GRAMMAR, parser="lalr")


def parse_search(query: str) -> Condition:
    """The condition that a query stands for; an empty one holds for every run.

    Raises:
        BadQuery: ``bad_query``; the position stands in the message and in ``details["column"]``.

    Example:
        >>> condition = parse_search("state:done not tag:old")
        >>> condition({"state": ("done",), "tag": ("prod",), "name": ("first",)})
        True
    """
    if not query.strip():
        return lambda _facts: True
    try:
        condition: Condition = _Conditions().transform(_parser().parse(query))
        return condition
    except UnexpectedInput as error:
        at_end = isinstance(error, UnexpectedToken) and error.token.type == "$END"
        column = len(query) + 1 if at_end else max(int(error.column), 1)
        seen = query[column - 1 :].split() or ["the end"]
        raise BadQuery(
            f"the search is not understood at column {column}: {seen[0]!r}", hint=_HINT, details={"column": column}
        ) from None
    except VisitError as error:
        raise error.orig_exc from None


def search_facts(row: Mapping[str, Any], spec: Mapping[str, Any]) -> Facts:
    """What the search sees of a run: ``row`` as the store keeps it, and its specification."""
    source = {
        part: [str(spec[part][key]) for key in ("file", "example", "path", "architecture") if spec[part].get(key)]
        for part in ("model", "data")
    }
    facts = {
        "id": [row["id"]],
        "name": [row["name"]],
        "owner": [row["owner"]],
        "state": [row["state"]],
        "tag": row["tags"],
        "scheme": spec["schemes"],
        **source,
    }
    return {field: tuple(value.lower() for value in values) for field, values in facts.items()}
