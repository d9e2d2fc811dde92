from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from engine.ids import CartIds, DerivedIds, fingerprint, is_reservation_id, once, random_id
from engine.values import Operation

IDS = DerivedIds(b"a secret")
CARTS = CartIds(b"a secret")


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


@given(st.text(), st.integers(0, (1 << 32) * 1_000 - 1))
def test_a_cart_s_id_says_when_it_was_issued_and_to_nobody_but_its_owner(owner: str, now_ms: int) -> None:
    cart_id = CARTS.issue(owner, now_ms)
    assert is_reservation_id(cart_id)
    assert CARTS.issued_ms(cart_id, owner) == now_ms - now_ms % 1_000
    assert CARTS.issued_ms(cart_id, owner + "x") is None
    assert CartIds(b"another secret").issued_ms(cart_id, owner) is None


@given(st.text(), st.integers(0, 21), st.sampled_from("0aZ"))
def test_a_cart_s_id_with_another_letter_was_never_issued(owner: str, at: int, letter: str) -> None:
    cart_id = CARTS.issue(owner, 1_700_000_000_000)
    changed = cart_id[:at] + letter + cart_id[at + 1 :]
    assert changed == cart_id or CARTS.issued_ms(changed, owner) is None


@given(st.one_of(st.text(), st.text("0123456789zZ", min_size=22, max_size=22)))
def test_any_other_text_is_no_cart_s_id(text: str) -> None:
    assert CARTS.issued_ms(text, "") is None


def test_carts_ids_never_repeat() -> None:
    assert len({CARTS.issue("", 1_700_000_000_000) for _ in range(10_000)}) == 10_000


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
