"""Texts in encodings of other places and times: read right, or refused; never other letters."""

from __future__ import annotations

import pytest

from csp_engine.errors import InputError
from csp_engine.reading.encodings import decoded, why_not_western
from csp_engine.reading.tables import read_table
from csp_engine.words.vocabularies import read_vocabulary

WESTERN = (
    "café, naïve, Zürich, garçon, œuvre, cœur, Škoda, žena, l’été, “quoted”, 5–10 €, Brand™",
    "don’t\nÄrzte\nÖl\nÜbung\nß\nÉlan\nÀÉ",
    "name†\nword‡\nµm\n20 °C\n½ cup\nniño\nmañana\naçaí",
)
JAPANESE = "ねこ\nいぬ\nカメラ\n自転車\n赤い車\nとり"
OTHERS = {
    "cp1251": "кошка\nсобака\nкрасная машина\nдерево",
    "koi8-r": "кошка\nсобака\nкрасная машина\nдерево",
    "gb18030": "红色汽车\n自行车\n猫和狗\n大树林",
    "big5": "紅色汽車\n自行車\n貓和狗\n大樹林",
    "euc-jp": JAPANESE,
    "euc-kr": "고양이\n강아지\n빨간자동차\n나무",
    "cp1253": "γάτα\nσκύλος\nκόκκινο αυτοκίνητο\nδέντρο",
    "cp1256": "قطة\nكلب\nسيارة حمراء\nشجرة",
    "mac_roman": "café\nnaïve coat\nZürich\nmañana\ngarçon\nBär\npoêle",
}


@pytest.mark.parametrize("text", WESTERN)
@pytest.mark.parametrize("encoding", ["cp1252", "utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
def test_western_texts_are_read_as_they_are(text: str, encoding: str) -> None:
    content = text.encode(encoding)
    assert why_not_western(content) == ""
    assert decoded(content).lstrip("\ufeff") == text


@pytest.mark.parametrize("encoding", ["cp932", "utf-8", "utf-16"])
def test_japanese_is_read_as_it_is(encoding: str, tmp_path) -> None:
    path = tmp_path / "words.txt"
    path.write_bytes(JAPANESE.encode(encoding))
    assert list(read_vocabulary([str(path)]).table["text"]) == JAPANESE.split("\n")


@pytest.mark.parametrize("encoding", OTHERS)
def test_other_encodings_are_refused(encoding: str, tmp_path) -> None:
    content = OTHERS[encoding].encode(encoding)
    path = tmp_path / "words.txt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"is not in UTF-8, and .*; save it as UTF-8"):
        read_vocabulary([str(path)])
    table = tmp_path / "t.csv"
    table.write_bytes(b"file,label\n1.png," + content.replace(b"\n", b"\n2.png,"))
    with pytest.raises(InputError, match="save it as UTF-8"):
        read_table(table)
    path.write_bytes(OTHERS[encoding].encode())
    assert len(read_vocabulary([str(path)]).table) == OTHERS[encoding].count("\n") + 1


def test_a_few_foreign_words_among_many_are_no_reason(tmp_path) -> None:
    """One word of capitals with accents is Western; so is a dagger behind a word."""
    content = "\n".join([*["plain word"] * 50, "ÉÈÀ", "name†", "Öl", "é"]).encode("cp1252")
    assert why_not_western(content) == ""


@pytest.mark.parametrize(
    ("encoding", "word", "read"),
    [
        ("cp1252", "café", "café"),
        ("latin-1", "Bär", "Bär"),
        ("mac_roman", "Bär", "BŠr"),
        ("mac_roman", "café", "cafŽ"),
        ("cp437", "café", "caf‚"),
        ("cp850", "Bär", "B„r"),
        ("cp1250", "łąka", "³¹ka"),
        ("cp932", "ねこといぬ", "ねこといぬ"),
    ],
)
def test_what_had_to_be_guessed_is_said_with_the_line(encoding, word, read, tmp_path, caplog):
    """In short files no rule can tell encodings apart, so the letters themselves are shown."""
    path = tmp_path / "t.csv"
    path.write_bytes(f"file,label\r\n1.png,cat\r\n2.png,{word}\r\n".encode(encoding))
    assert read_table(path).rows["label"].tolist() == ["cat", read]
    name = "Shift-JIS" if encoding == "cp932" else "Windows-1252"
    assert f"'t.csv' is not in UTF-8 and is read as {name}, so line 3 is '2.png,{read}'" in (
        caplog.text
    )


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "ascii"])
def test_where_nothing_is_guessed_nothing_is_said(encoding, tmp_path, caplog):
    path = tmp_path / "t.csv"
    word = "cat" if encoding == "ascii" else "café"
    path.write_bytes(f"file,label\n1.png,{word}\n".encode(encoding))
    assert read_table(path).rows["label"].tolist() == [word]
    assert caplog.text == ""
