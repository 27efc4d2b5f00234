"""What a step leaves behind for people."""

from types import SimpleNamespace

from rlsd_lightning.records import decoder


def test_single_tokens_are_decoded_once():
    asked = []
    tokenizer = SimpleNamespace(decode=lambda ids, **_: asked.append(ids) or str(ids))
    decode = decoder(tokenizer)
    assert [decode([1]), decode([1]), decode([1, 2]), decode([1, 2])] == ["[1]"] * 2 + [
        "[1, 2]"
    ] * 2
    assert asked == [[1], [1, 2], [1, 2]]
