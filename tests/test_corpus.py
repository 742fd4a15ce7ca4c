import gzip
import json
import random
import sys
import tracemalloc
import unicodedata
from hashlib import blake2b
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck import corpus
from limbeck.corpus import (
    CorpusSource,
    Seen,
    held_out,
    normalise,
    prepare,
    read,
    why_dropped,
    words_of,
)
from limbeck.errors import ArtifactError, DataError, RecipeError

WORDS = ["omi", "ilé", "ọjọ́", "àwọn", "ènìyàn", "ìwé", "ayé", "ọba", "ṣiṣẹ́", "lọ", "wá", "rí"]


def sentences(count: int, seed: int = 0) -> list[str]:
    chance = random.Random(seed)
    return [" ".join(chance.choices(WORDS, k=9)) + f" {number}" for number in range(count)]


def texts(path: Path | str, **options: str) -> list[str]:
    return [line.text for line in read(CorpusSource(path=str(path), **options), language="yor")]


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def prepared(folder: Path, content: str | bytes, **options):
    source = CorpusSource(path=str(write(folder / "in.txt", content)))
    return prepare({"yor": source}, folder / "out", **options)["yor"]


def both(folder: Path) -> tuple[list[str], list[str]]:
    names = ("out/yor.train.txt", "out/yor.heldout.txt")
    train, heldout = (list(corpus.read_texts(folder / name)) for name in names)
    return train, heldout


# reading


def test_a_source_is_a_path_or_the_hub():
    for arguments in ({}, {"path": "a.txt", "hub": "b"}):
        with pytest.raises(RecipeError, match="from a path or from the hub"):
            CorpusSource(**arguments)


def test_text_is_read_with_byte_order_mark_and_every_kind_of_line_end(tmp_path):
    path = write(tmp_path / "a.txt", b"\xef\xbb\xbfone\r\ntwo\rthree\n\nfour\xc2\x85five")
    source = CorpusSource(path=str(path))
    lines = list(read(source, language="yor"))
    assert [line.text for line in lines] == ["one", "two", "three", "", "four\x85five"]
    assert [line.number for line in lines] == [1, 2, 2, 3, 4]
    assert {line.file for line in lines} == {str(path)}


def test_every_format_gives_the_same_texts(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet

    wanted = ["ọjọ́ kan", "omi tutu", ""]
    rows = [{"id": 1, "body": "ọjọ́ kan"}, {"id": 2, "body": "omi tutu"}, {"id": 3, "body": None}]
    plain = "\n".join(wanted).encode() + b"\n"
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    write(tmp_path / "a.txt", plain)
    write(tmp_path / "a.txt.gz", gzip.compress(plain))
    write(tmp_path / "a.jsonl", lines)
    write(tmp_path / "a.json", b"\xef\xbb\xbf" + lines)
    write(tmp_path / "a.jsonl.gz", gzip.compress(lines))
    write(tmp_path / "a.json.GZ", gzip.compress(lines))
    pyarrow.parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    for file in sorted(tmp_path.iterdir()):
        assert texts(file, column="body") == wanted, file.name


def test_a_blank_json_line_is_an_empty_text(tmp_path):
    assert texts(write(tmp_path / "a.jsonl", '{"text": "a"}\n\n')) == ["a", ""]


def test_a_glob_is_read_in_the_order_of_names(tmp_path, monkeypatch):
    write(tmp_path / "b.txt", "second")
    write(tmp_path / "a.txt", "first")
    write(tmp_path / "deep/c.txt", "third")
    assert texts(tmp_path / "*.txt") == ["first", "second"]
    assert texts(tmp_path / "**/*.txt") == ["first", "second", "third"]
    monkeypatch.chdir(tmp_path / "deep")
    assert texts("../[ab].txt") == ["first", "second"]


def test_a_file_whose_name_looks_like_a_glob_is_read(tmp_path):
    assert texts(write(tmp_path / "a[1].txt", "here")) == ["here"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none.txt", "corpus.yor: no such file; found .*none.txt"),
        ("*.txt", r"corpus.yor: no file matches; found .*\*.txt"),
        ("", r"a folder where a file is needed.*/\*.txt"),
        ("a.csv", "unknown suffix; found a.csv; expected .txt, .jsonl"),
        ("a.parquet.gz", "unknown suffix; found a.parquet.gz"),
    ],
)
def test_what_is_no_corpus_file_is_told_before_reading(tmp_path, name, message):
    write(tmp_path / "a.csv", "x")
    write(tmp_path / "a.parquet.gz", "x")
    with pytest.raises(DataError, match=message):
        read(CorpusSource(path=str(tmp_path / name)), language="yor")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"good\nb\xe9d\n", r"a.txt:2: not UTF-8; found byte 0xe9 at byte offset 6; save it as"),
        (b"\xef\xbb\xbfb\xe9d\n", "a.txt:1: .*byte 0xe9 at byte offset 4;"),
        ("ọjọ́".encode("utf-16"), "a.txt:1: .*offset 0 .it looks like UTF-16"),
        (b"good\n\xe1\xbb", "a.txt:2: .*byte 0xe1 at byte offset 5"),
    ],
)
def test_wrong_encoding_is_told_with_line_and_offset(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        texts(write(tmp_path / "a.txt", content))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"text": "a"}\n{"text": \n', "a.jsonl:2: bad JSON; .*expected one JSON object a line"),
        ('["text"]\n', "a.jsonl:1: not an object; found list"),
        ('{"body": "a", "id": 1}\n', "a.jsonl:1: no column 'text'; found columns body, id; set"),
        ('{"text": 3}\n', "a.jsonl:1: column 'text' holds no text; found int"),
    ],
)
def test_wrong_json_is_told_with_its_line(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        texts(write(tmp_path / "a.jsonl", content))


def test_damaged_gzip_is_told(tmp_path):
    whole = gzip.compress("\n".join(sentences(200)).encode())
    for number, content in enumerate((whole[:-40], b"no gzip at all", whole[:60] + b"\0" * 99)):
        path = write(tmp_path / f"{number}.txt.gz", content)
        with pytest.raises(DataError, match=rf"{number}.txt.gz: damaged gzip; found .*fetch"):
            texts(path)


def test_a_file_that_cannot_be_opened_is_told(tmp_path):
    with pytest.raises(DataError, match=r"cannot be read; found Is a directory"):
        list(corpus.read_texts(tmp_path))


def test_wrong_parquet_is_told(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet

    with pytest.raises(DataError, match="a.parquet: cannot be read"):
        texts(write(tmp_path / "a.parquet", "PAR1 and nothing else, PAR1"))
    table = pa.table({"body": ["a"], "text": [7]})
    pyarrow.parquet.write_table(table, tmp_path / "b.parquet")
    with pytest.raises(DataError, match="no column 'line'; found columns body, text"):
        texts(tmp_path / "b.parquet", column="line")
    with pytest.raises(DataError, match="b.parquet:1: column 'text' holds no text; found int"):
        texts(tmp_path / "b.parquet")


def test_a_missing_library_names_the_line_to_type(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match=r"pyarrow is not installed; .*limbeck\[train\]"):
        texts(write(tmp_path / "a.parquet", "x"))


@pytest.fixture
def hub_folder(tmp_path):
    rows = "".join(json.dumps({"line": text, "id": 1}) + "\n" for text in ("ọ̀kan", "èjì"))
    write(tmp_path / "set/data/train-0.jsonl", rows)
    write(tmp_path / "set/data/test-0.jsonl", '{"line": "ẹ̀ta", "id": 3}\n')
    return str(tmp_path / "set")


def test_a_folder_like_a_hub_dataset_streams(hub_folder):
    source = CorpusSource(hub=hub_folder, column="line")
    lines = list(read(source, language="yor"))
    assert [line.text for line in lines] == ["ọ̀kan", "èjì"]
    assert [line.number for line in lines] == [1, 2]
    source = CorpusSource(hub=hub_folder, column="line", split="test")
    assert [line.text for line in read(source, language="yor")] == ["ẹ̀ta"]
    assert corpus.find_files(source, language="yor") == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "corpus.yor: .*set.* no column 'text'; found columns line, id"),
        ({"split": "dev"}, "corpus.yor: .*cannot be read; found ValueError.*dev"),
        ({"column": "id"}, "column 'id' holds no text; found int"),
    ],
)
def test_a_wrong_hub_dataset_is_told(hub_folder, options, message):
    with pytest.raises(DataError, match=message):
        list(read(CorpusSource(hub=hub_folder, **options), language="yor"))


# cleaning


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("o\u0323jo\u0323\u0301", "ọjọ́"),
        ("\ufeff a\u00a0\u00a0b\tc\x00d\x1fe\u2028f ", "a b c d e f"),
        ("zero\u200bwidth soft\u00adhyphen \u202bmarks\u202c", "zerowidth softhyphen marks"),
        ("می\u200cخواهم क्\u200dष", "می\u200cخواهم क्\u200dष"),
        ("half \ud83d a pair", "half a pair"),
        ("\r\n \t", ""),
    ],
)
def test_normalise_gives_clean_text(raw, clean):
    assert normalise(raw) == unicodedata.normalize("NFC", clean)


@given(st.text(st.characters(codec=None)))
def test_normalise_twice_is_normalise_once_and_fits_one_line(text):
    once = normalise(text)
    assert normalise(once) == once
    assert once.encode().decode().splitlines() in ([once], [])
    assert unicodedata.is_normalized("NFC", once)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("Page 12", "too short"),
        ("Zimbabwe 2 1 0 1 3 2 1 4", ""),
        ("Zimbabwe 2 1 0 1 3 2 1 4 7", "mostly not letters"),
        ("ọ́ọ́ọ́ 12345", ""),
        ("हिन्दी में लिखा", ""),
        ("今天天气很好我们去公园", ""),
    ],
)
def test_each_text_is_dropped_for_its_reason(text, reason):
    assert why_dropped(text) == reason


@pytest.mark.parametrize(
    ("script", "good", "bad"),
    [
        ("Latn", "àwọn ènìyàn ʼ ª Москва", "Москва слезам not верит"),
        ("Cyrl", "Москва слезам не верит", "Moscow believes not слезам"),
        ("Jpan", "今日はいい天気ですね。", "오늘은 날씨가 좋네요."),
        ("Ethi", "ሰላም ለዓለም ሁሉ ይሁን", "salaam ለዓለም for all"),
        ("Nkoo", "ߒߞߏ ߞߊ߲ ߠߊߞߊ߬ߙߊ߲", "N'Ko ka lakaran"),
        ("Deva", "हिन्दी में लिखा है", "বাংলায় লেখা আছে"),
    ],
)
def test_the_script_is_checked_by_the_names_of_the_letters(script, good, bad):
    assert why_dropped(good, script=script) == ""
    assert why_dropped(bad, script=script) == "wrong script"


@given(st.text(min_size=1).map(normalise).filter(bool))
def test_asking_for_a_script_changes_no_other_reason(text):
    plain, asked = (why_dropped(text, min_characters=1, script=script) for script in ("", "Latn"))
    assert asked == plain or (plain, asked) == ("", "wrong script")


# words


def test_words_are_split_as_in_label_files():
    assert words_of("Dr. Adé's well-known (3,000.5) ọ̀rẹ́!") == [
        "Dr", ".", "Adé's", "well-known", "(", "3,000.5", ")", "ọ̀rẹ́", "!",
    ]  # fmt: skip


def test_joiners_stay_inside_their_word():
    assert words_of("او می\u200cخواهد. क्\u200dष") == ["او", "می\u200cخواهد", ".", "क्\u200dष"]


# duplicates


@given(st.lists(st.integers(0, 2**64 - 1) | st.sampled_from([0, 1, 4095, 4096, 2**64 - 1])))
def test_seen_is_a_set(digests):
    seen, known = Seen(), set()
    for digest in digests:
        assert seen.add(digest) == ((digest or 1) not in known)
        known.add(digest or 1)
    assert len(seen) == len(known)


def test_seen_grows_and_stays_under_22_bytes_a_hash():
    chance = random.Random(0)
    # half of the first share their low bits: long runs of slots that every growth must keep whole
    digests = [chance.getrandbits(64) for _ in range(2_400)]
    digests = sorted({d if n % 2 else d & ~0xFFF | 7 for n, d in enumerate(digests)} - {0})
    seen = Seen()
    digests += [chance.getrandbits(64) for _ in range(4_000)]
    assert all(seen.add(digest) for digest in digests)
    assert not any(seen.add(digest) for digest in digests)
    assert seen.table_bytes <= 22 * len(seen)


# the split and the files


def test_a_text_is_held_out_by_its_hash_alone():
    some = sentences(4000)
    chosen = [text for text in some if held_out(text, fraction=0.05)]
    assert 140 < len(chosen) < 260
    assert all(held_out(text, fraction=0.2) for text in chosen)
    assert not any(held_out(text, fraction=0) for text in some)
    share = int.from_bytes(blake2b(b"omi tutu", digest_size=8).digest(), "little") / 2**64
    assert held_out("omi tutu", fraction=share + 1e-9)
    assert not held_out("omi tutu", fraction=share - 1e-9)


def test_prepare_counts_every_text(tmp_path):
    good = sentences(300)
    bad = ["", "short", "1 2 3 4 5 6 7 8 9 0", "Москва слезам не верит", good[0], f"\t{good[1]}\r"]
    counts = prepared(
        tmp_path, "\n".join(good + bad), scripts={"yor": "Latn"}, held_out_fraction=0.1
    )
    assert counts.dropped == {
        "empty": 1,
        "too short": 1,
        "mostly not letters": 1,
        "wrong script": 1,
        "duplicate": 2,
    }
    train, heldout = both(tmp_path)
    good = [normalise(text) for text in good]
    assert train == [text for text in good if not held_out(text, fraction=0.1)]
    assert heldout == [text for text in good if held_out(text, fraction=0.1)]
    assert (counts.read, counts.kept, counts.heldout) == (306, 300, len(heldout))
    assert counts.characters == sum(map(len, good))
    assert counts.bytes == sum(len(text.encode()) for text in good)
    assert counts.words == sum(len(text.split()) for text in good) == 3000


def test_prepare_gives_the_same_bytes_and_the_same_split_in_any_order(tmp_path):
    good = sentences(200)
    for name, some in (("a", good), ("b", good), ("c", good[::-1])):
        prepared(tmp_path / name, "\n".join(some), held_out_fraction=0.1)
    a, b, c = (both(tmp_path / name) for name in "abc")
    assert a == b
    assert a[0] == c[0][::-1] and a[1] == c[1][::-1]


@pytest.mark.parametrize("count", [1, 2, 3, 20])
@pytest.mark.parametrize("fraction", [0.0, 0.0001, 0.5, 0.9999])
def test_neither_part_is_empty_when_two_texts_are_kept(tmp_path, count, fraction):
    good = sentences(count)
    counts = prepared(tmp_path, "\n".join(good), held_out_fraction=fraction)
    train, heldout = both(tmp_path)
    assert sorted(train + heldout) == sorted(map(normalise, good))
    assert len(heldout) == counts.heldout
    assert train
    assert bool(heldout) == (count > 1 and fraction > 0)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "yor.heldout.txt",
        "yor.train.txt",
    ]


def test_an_empty_corpus_tells_what_was_dropped(tmp_path):
    with pytest.raises(DataError, match="corpus.yor: the corpus is empty; found 1 empty, 2 too sh"):
        prepared(tmp_path, "\none\ntwo\n")
    with pytest.raises(DataError, match="no line at all"):
        prepared(tmp_path, "")


def test_impossible_options_are_told_before_reading(tmp_path):
    with pytest.raises(RecipeError, match="bad held-out fraction; found 1"):
        prepared(tmp_path, "x", held_out_fraction=1)
    with pytest.raises(RecipeError, match="yor: unknown script; found Latin; expected one of Adlm"):
        prepared(tmp_path, "x", scripts={"yor": "Latin"})


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_told_in_one_line(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/yor.train.txt").symlink_to("/dev/full")
    with pytest.raises(ArtifactError, match=r"yor.train.txt: the disk is full; .*free some space"):
        prepared(tmp_path, "\n".join(sentences(50)))


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    write(tmp_path / "out", "a file")
    with pytest.raises(ArtifactError, match="out: cannot be written; found File exists"):
        prepared(tmp_path, "\n".join(sentences(5)))


def test_memory_stays_flat_whatever_the_size_of_the_corpus(tmp_path):
    path = tmp_path / "big.txt"
    with path.open("w", encoding="utf-8") as handle:
        for number in range(3_000):
            handle.write(f"{number} " + "àwọn ènìyàn " * 40 + "\n")
    assert path.stat().st_size > 1_500_000
    tracemalloc.start()
    prepare({"yor": CorpusSource(path=str(path))}, tmp_path / "out")
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 500_000
