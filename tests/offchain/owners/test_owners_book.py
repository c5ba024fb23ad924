from __future__ import annotations

import json
import stat
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from quietfleet.crypto import PrivateKey, keccak256
from quietfleet.errors import BookError, NameRefused, NothingNamed, UnknownTag, UnknownWorkerName
from quietfleet.owners import AddressBook

IDS = [PrivateKey.from_bytes(keccak256(b"book %d" % number)).public.id for number in range(4)]
NAMES = ["porch", "hall", "front door", "gärten"]
TAGS = ["garden", "north", "old ones"]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "31337.book.json"


@pytest.fixture
def book(path):
    return AddressBook(path)


class TwoBooks(RuleBasedStateMachine):
    """Two consoles write into one book; each knows at once what the other wrote."""

    def __init__(self):
        super().__init__()
        self.folder = TemporaryDirectory()
        self.books = [AddressBook(Path(self.folder.name) / "book.json") for _ in range(2)]
        self.names, self.tags = {}, {}

    def teardown(self):
        self.folder.cleanup()

    @rule(which=st.integers(0, 1), name=st.sampled_from(NAMES), id_=st.sampled_from(IDS))
    def name(self, which, name, id_):
        self.books[which].add(name, id_.lower())
        self.names[name] = id_

    @rule(which=st.integers(0, 1), id_=st.sampled_from(IDS), tags=st.lists(st.sampled_from(TAGS), max_size=3))
    def tag(self, which, id_, tags):
        self.books[which].tag(id_, tags)
        self.tags.setdefault(id_, set()).update(tags)

    @rule(which=st.integers(0, 1), id_=st.sampled_from(IDS), tags=st.lists(st.sampled_from(TAGS), max_size=3))
    def untag(self, which, id_, tags):
        carried = self.tags.get(id_, set())
        if set(tags) <= carried:
            self.books[which].untag(id_, tags)
            carried -= set(tags)
        else:
            with pytest.raises(UnknownTag):
                self.books[which].untag(id_, tags)

    @invariant()
    def both_know_all(self):
        for book in self.books:
            assert {name: book.id_of(name) for name in self.names} == self.names
            for id_ in IDS:
                assert set(book.tags_of(id_)) == self.tags.get(id_, set())
                assert not (found := book.name_of(id_)) or self.names[found] == id_
            for tag in TAGS:
                carriers = {id_ for id_ in IDS if tag in self.tags.get(id_, ())}
                if carriers:
                    assert set(book.chosen((), tag)) == carriers
                else:
                    with pytest.raises(UnknownTag):
                        book.tagged(tag)


TestTwoBooks = TwoBooks.TestCase
TestTwoBooks.settings = settings(max_examples=40, stateful_step_count=20, deadline=None, derandomize=True)


def test_read__a_book_from_before_there_were_tags__is_as_good(path):
    path.write_text(json.dumps({"workers": {"porch": IDS[0].lower()}}))
    book = AddressBook(path)
    assert (book.id_of("porch"), book.name_of(IDS[0]), book.tags_of(IDS[0])) == (IDS[0], "porch", ())
    book.tag(IDS[0], ["garden"])
    assert json.loads(path.read_text()) == {"workers": {"porch": IDS[0]}, "tags": {"garden": [IDS[0]]}}


def test_write__a_new_book__is_its_owners_alone_and_leaves_nothing_beside_it(book, path, tmp_path):
    book.add("porch", IDS[0])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_chosen__by_name_id_and_tag__each_once_in_order(book):
    book.add("porch", IDS[1])
    book.tag(IDS[0], ["garden"])
    book.tag(IDS[1], ["garden"])
    assert book.chosen([IDS[2], "porch"], "garden") == [IDS[2], IDS[1], IDS[0]]


def test_chosen__nobody_named__does_not_mean_all(book):
    with pytest.raises(NothingNamed):
        book.chosen([])


@pytest.mark.parametrize("word", ["", " porch", "-k", "0x" + "11" * 20, "a,b", "a\nb", "\u202eporch", "x" * 65])
def test_add__what_could_be_taken_for_something_else__is_refused(book, path, word):
    with pytest.raises(NameRefused):
        book.add(word, IDS[0])
    with pytest.raises(NameRefused):
        book.tag(IDS[0], ["garden", word])
    assert not path.exists()


def test_id_of__a_mistyped_id__is_noticed_by_its_capitals(book):
    wrong = IDS[0][:-1] + ("0" if IDS[0][-1] != "0" else "1")
    with pytest.raises(UnknownWorkerName, match="typing mistake"):
        book.id_of(wrong)


@pytest.mark.parametrize(("word", "guess"), [("prch", r"did you mean porch\?"), ("zzz", "zzz")])
def test_id_of__a_mistyped_name__guesses_what_was_meant(book, word, guess):
    book.add("porch", IDS[0])
    with pytest.raises(UnknownWorkerName, match=guess):
        book.id_of(word)


def test_id_of__a_name_written_by_hand_that_looks_like_an_id__means_the_id(path):
    path.write_text(json.dumps({"workers": {IDS[0]: IDS[1]}}))
    assert AddressBook(path).id_of(IDS[0]) == IDS[0]


@pytest.mark.parametrize("content", ["{", '{"workers": {"porch": "0x12"}}', '{"tags": {"garden": ["porch"]}}', "[]"])
def test_read__a_broken_book__says_which(path, content):
    path.write_text(content)
    with pytest.raises(BookError, match=r"31337\.book\.json"):
        AddressBook(path)
