from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from engine.ids import DerivedIds, fingerprint, is_reservation_id, once, random_id
from engine.values import Operation

IDS = DerivedIds(b"a secret")


def test_random_ids_have_the_form_of_an_id_and_never_repeat() -> None:
    drawn = {random_id() for _ in range(10_000)}
    assert len(drawn) == 10_000
    assert all(is_reservation_id(each) for each in drawn)


def test_what_is_no_id_is_told_from_one() -> None:
    assert not any(is_reservation_id(text) for text in ("", "a" * 21, "a" * 23, "a" * 21 + "-", "a" * 22 + "\n"))


@given(st.lists(st.text(), min_size=1, max_size=4))
def test_derived_ids_are_the_same_for_the_same_words_and_have_the_form_of_an_id(words: list[str]) -> None:
    assert IDS.of(*words) == IDS.of(*words)
    assert is_reservation_id(IDS.of(*words))


@given(st.lists(st.text(max_size=3), max_size=4), st.lists(st.text(max_size=3), max_size=4))
def test_derived_ids_differ_for_different_words(some: list[str], others: list[str]) -> None:
    assert (IDS.of(*some) == IDS.of(*others)) == (some == others)


def test_derived_ids_differ_by_secret() -> None:
    assert IDS.of("a") != DerivedIds(b"another secret").of("a")


@given(st.lists(st.binary(max_size=3), max_size=4), st.lists(st.binary(max_size=3), max_size=4))
def test_fingerprints_tell_requests_apart(some: list[bytes], others: list[bytes]) -> None:
    assert (fingerprint(*some) == fingerprint(*others)) == (some == others)


@given(st.binary())
def test_a_fingerprint_is_a_number_that_redis_keeps_in_8_bytes(part: bytes) -> None:
    assert 0 <= int(fingerprint(part)) < 2**63


def test_a_call_without_an_operation_gets_one_of_its_own() -> None:
    first, second = once(Operation()), once(Operation())
    assert first.fingerprint
    assert first.id != second.id


def test_a_call_with_an_operation_keeps_it() -> None:
    assert once(Operation("o", "7")) == Operation("o", "7")
