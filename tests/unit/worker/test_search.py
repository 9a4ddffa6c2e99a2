import pytest

from worker.store import BadQuery
from worker.store.search import parse_search, search_facts

ROW = {"id": "abc123", "name": "ResNet first try", "owner": "ana", "state": "DONE", "tags": ["Prod", "two words"]}
SPEC = {
    "model": {"file": "f" * 64, "example": None, "path": None, "architecture": "cifar-resnet"},
    "data": {"file": None, "example": "digits", "path": None},
    "schemes": ["int8", "int4-g128", "w8a8+gptq:act_order=true+skip:kind.Embedding", "codebook[-1:0:1]-g8"],
}


def found(query: str) -> bool:
    return parse_search(query)(search_facts(ROW, SPEC))


@pytest.mark.parametrize(
    "query",
    [
        "", "   ", "first", "FIRST", "resnet try", "state:done", "STATE:Done", "tag:prod", 'tag:"two words"',
        "owner:ana int4", "scheme:g128", "model:resnet", "data:digits", "id:abc123", "abc1", "not state:failed",
        "NOT int3", "not not int8", "int3 OR int4", "(int3 OR int8) tag:prod", "not (int3 OR int2)", '"first try"',
        "tag:x OR state:done", "w8a8+gptq", "w8a8+gptq:act_order=true",
        "scheme:w8a8+gptq:act_order=true+skip:kind.Embedding", "(codebook[-1:0:1] OR int3)",
        "not int4+gptq:act_order=true",
    ],
)  # fmt: skip
def test_it_finds(query):
    assert found(query)


@pytest.mark.parametrize(
    "query",
    ["second", "state:failed", "tag:pro", "owner:an", "not int8", "int8 int3", "int8 not tag:prod", '"try first"',
     "id:abc", "tag:two", "(int3 OR int2) first"],
)  # fmt: skip
def test_it_does_not_find(query):
    assert not found(query)


@pytest.mark.parametrize(
    ("query", "column"),
    [("(a", 3), ("a)", 2), ("state:", 7), ('"x', 1), ("a OR", 5), ("()", 2), ("a:b:c", 4)],
)
def test_a_mistake_names_its_place(query, column):
    with pytest.raises(BadQuery) as caught:
        parse_search(query)
    assert caught.value.code == "bad_query"
    assert caught.value.details["column"] == column
    assert caught.value.hint


@pytest.mark.parametrize(("query", "word"), [("state:ready", "ready"), ("colour:red", "colour")])
def test_an_unknown_state_or_field_is_named(query, word):
    with pytest.raises(BadQuery, match=word):
        parse_search(query)
