"""File names, extensions, links, line ends and CSV dialects are read as people mean them; the rest is counted."""

import unicodedata
from pathlib import Path

import pytest

from data_prep.listing import Names, list_files
from tests.data_prep.folders import captions, photo, prepare, problems, with_text, write_rows

COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "p\xe9lican") for form in ("NFC", "NFD"))


@pytest.mark.parametrize(
    ("image", "text"),
    [
        ("IMG_0.JPG", "IMG_0.TXT"),
        ("img_0.jpg", "IMG_0.txt"),
        ("a.Jpeg", "a.Txt"),
        ("a.jfif", "a.txt"),
        ("a.JFIF", "a.TXT"),
        ("a.jpe", "a.txt"),
        ("a.png", "a.png.txt"),
        ("a.b.c.png", "a.b.c.TXT"),
        (f"{DECOMPOSED}.jpg", f"{COMPOSED}.txt"),
        (f"{COMPOSED}.jpg", f"{DECOMPOSED}.TXT"),
        ("\u00c9.jpg", "e\u0301.txt"),
        ("two words.jpg", "two words.txt"),
    ],
)
def test_text_files(image: str, text: str, tmp_path: Path) -> None:
    src = tmp_path / "src"
    photo(src / image, form="JPEG")
    (src / text).write_text("a red square")
    code, out = prepare(src)
    assert code == 0 and captions(out) == {image: ("a red square",)}


@pytest.mark.parametrize(
    ("image", "named"),
    [
        (f"{DECOMPOSED}.jpg", f"{COMPOSED}.jpg"),
        (f"{COMPOSED}.jpg", f"{DECOMPOSED}.jpg"),
        (f"{DECOMPOSED}/{COMPOSED}.jpg", f"{COMPOSED}/{DECOMPOSED}.jpg"),
        ("IMG_0.JPG", "img_0.jpg"),
        ("Stra\xdfe.jpg", "STRASSE.JPG"),
        ("\ud55c\uae00.png", unicodedata.normalize("NFD", "\ud55c\uae00.png")),
        ("sub/a.jpg", " sub\\a.jpg "),
        ("sub/a.jpg", "./sub/../sub/a.jpg"),
    ],
)
@pytest.mark.parametrize("table", ["metadata.jsonl", "METADATA.CSV", "metadata.tsv"])
def test_names_in_the_metadata(table: str, image: str, named: str, tmp_path: Path) -> None:
    src = tmp_path / "src"
    photo(src / image)
    if table.endswith("jsonl"):
        write_rows(src / table, {"file_name": named, "text": "red"})
    else:
        mark = "\t" if table.endswith("tsv") else ","
        (src / table).write_text(f"file_name{mark}text\n{named}{mark}red\n", "utf-8")
    code, out = prepare(src)
    assert code == 0 and captions(out) == {image: ("red",)}


def test_exact_names_come_first_and_ambiguous_ones_are_listed(tmp_path: Path) -> None:
    paths = ["a.png", "A.png", "b.png", f"{DECOMPOSED}.png", f"{COMPOSED}.png"]
    names = Names(paths, lambda path: [path])
    assert [names.find(path) for path in paths] == [0, 1, 2, 3, 4]
    assert names.find("B.PNG") == 2 and names.find("c.png") is None
    with pytest.raises(ValueError, match=r"A\.PNG: there are A\.png and a\.png; rename one"):
        names.find("A.PNG")
    src = tmp_path / "src"
    for name in ("a.png", "A.png", "b.png"):
        photo(src / name)
    write_rows(src / "metadata.jsonl", *({"file_name": n, "text": n} for n in ("a.png", "A.PNG", "B.PNG")))
    code, out = prepare(src)
    assert code == 1 and captions(out) == {"a.png": ("a.png",), "b.png": ("B.PNG",)}
    assert problems(out)["metadata.jsonl, line 2"].startswith("A.PNG: there are A.png and a.png")


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n", "\r\r", "\n\r"])
def test_line_ends(end: str, tmp_path: Path) -> None:
    src = tmp_path / "src"
    photo(src / "a.png")
    (src / "a.txt").write_bytes(end.join(["a red bird", "a blue bird", "a bird\u2028of two lines"]).encode())
    code, out = prepare(src)
    assert code == 0 and captions(out)["a.png"] == ("a red bird", "a blue bird", "a bird of two lines")
    (src / "a.txt").unlink()
    photo(src / "b.png")
    (src / "metadata.jsonl").write_bytes(
        end.join(f'{{"file_name": "{n}.png", "text": "{n}"}}' for n in "ab").encode()
    )
    code, out = prepare(src)
    assert code == 0 and captions(out) == {"a.png": ("a",), "b.png": ("b",)}
    (src / "metadata.jsonl").unlink()
    (src / "metadata.csv").write_bytes(end.join(["file_name,text", "a.png,one", "b.png,two", ""]).encode())
    code, out = prepare(src)
    assert code == 0 and captions(out) == {"a.png": ("one",), "b.png": ("two",)}


TABLES = {
    "blank after the comma": 'file_name, text\na.png, "red, really"\n',
    "byte-order mark": '\ufefffile_name,text\na.png,"red, really"\n',
    "quoted header": '"file_name","text"\n"a.png","red, really"\n',
    "quoted header with a blank": '\ufeff"file_name", "text"\na.png, "red, really"\n',
    "semicolons": "file_name;text\na.png;red, really\n",
    "tabs": "file_name\ttext\na.png\tred, really\n",
    "quoted semicolons": '"text";"file_name";"species"\n"red, really";"a.png";\n',
    "sep= of a spreadsheet": "sep=;\nfile_name;text\na.png;red, really\n",
    "upper case": 'FILE_NAME,Text\na.png,"red, really"\n',
    "written apart": '"File Name", "Caption"\na.png, "red, really"\n',
    "blank lines first": '\n\nfile_name,text\n\na.png,"red, really"\n,\n',
    "file-name": 'filename,text,\na.png,"red, really",\n',
}


@pytest.mark.parametrize("case", TABLES)
def test_dialects_of_csv(case: str, tmp_path: Path) -> None:
    src = tmp_path / "src"
    photo(src / "a.png")
    (src / "metadata.csv").write_text(TABLES[case], "utf-8")
    code, out = prepare(src)
    assert code == 0 and captions(out) == {"a.png": ("red, really",)}


def test_linked_folders_are_entered_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    src, other = tmp_path / "src", tmp_path / "other"
    with_text(src / "own" / "a.png")
    with_text(other / "b.png")
    with_text(other / "deep" / "c.png")
    (src / "linked").symlink_to(other)
    (src / "again").symlink_to(other)
    (src / "self").symlink_to(src)
    (src / "own" / "up").symlink_to("..")
    (src / "above").symlink_to(tmp_path)
    (other / "deep" / "cycle").symlink_to(other)
    (other / "deep" / "back").symlink_to(src / "own")
    (src / "e.png").symlink_to(other / "b.png")  # a photo that is read under another name
    code, out = prepare(src)
    assert code == 1
    assert set(captions(out)) == {"again/b.png", "again/deep/c.png", "own/a.png"}
    assert problems(out) == {"above": "a link to a folder that contains the source; it is not entered"}
    printed = capsys.readouterr().out
    assert (
        "links to folders that are read under another name: again/deep/back, again/deep/cycle, linked, own/up, self\n"
    ) in printed


def test_a_folder_of_nothing_but_a_link(tmp_path: Path) -> None:
    with_text(tmp_path / "photos" / "a.png")
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "photos").symlink_to(tmp_path / "photos")
    code, out = prepare(tmp_path / "src")
    assert code == 0 and set(captions(out)) == {"photos/a.png"}


@pytest.mark.parametrize("links", [("a/b", "b/a"), ("a/x", "a/y"), ("a/b", "b/c", "c/a"), ("x", "y"), ("a/x", "x")])
def test_cycles_of_links_end(links: tuple[str, ...], tmp_path: Path) -> None:
    src = tmp_path / "src"
    for name in "abc":
        photo(src / name / f"{name}.png")
    for link in links:
        (src / link).symlink_to(src / link[-1] if link[-1] in "abc" else src)
    listing = list_files(src)
    assert list(listing.files) == ["a/a.png", "b/b.png", "c/c.png"] and not listing.problems
    assert len(listing.read_once) == len(links)


def test_metadata_that_name_a_photo_by_a_link(tmp_path: Path) -> None:
    src = tmp_path / "src"
    photo(src / "all" / "a.png")
    (src / "link").symlink_to(src / "all")
    (src / "b.png").symlink_to(src / "all" / "a.png")
    write_rows(src / "metadata.jsonl", {"file_name": "link/a.png", "text": "x"}, {"file_name": "b.png", "text": "y"})
    code, out = prepare(src)
    assert code == 0 and captions(out) == {"all/a.png": ("x", "y")}


@pytest.mark.parametrize("name", ["a.caption", "a.json", "train.csv", "captions.xlsx", "labels"])
def test_captions_in_files_that_are_not_read(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo(tmp_path / "src" / "a.png")
    (tmp_path / "src" / name).write_text("a red bird")
    assert prepare(tmp_path / "src")[0] == 2
    kind = Path(name).suffix or "no extension"
    assert f"(files that are not read: 1 {kind}); pass --no-captions" in capsys.readouterr().err


def test_what_is_not_read_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    src = tmp_path / "src"
    with_text(src / "a.png")
    for name in ("b.dat", "c.DAT", "Thumbs.db", "notes", "d.heic", "README.txt", ".hidden"):
        (src / name).write_bytes(b"x")
    code, out = prepare(src)
    assert code == 1 and list(problems(out)) == ["d.heic"]
    assert "other files, not read: 2 .dat, 1 .db, 1 no extension" in capsys.readouterr().out
    write_rows(src / "metadata.jsonl", {"file_name": "a.png", "text": "x"}, {"file_name": "b.dat", "text": "x"})
    code, out = prepare(src)
    assert problems(out)["metadata.jsonl, line 2"] == "b.dat: the extension '.dat' is not read"
    assert "2 .txt" in capsys.readouterr().out
