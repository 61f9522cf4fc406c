"""Image folders and csv files as data, right and wrong."""

import pytest
from PIL import Image

from withstand.core.errors import InputError
from withstand.io.data import arrange, load_data


def picture(path, size=(4, 3), mode="L", value: int | tuple[int, ...] = 128):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value).save(path)


def test_image_folder_numbers_sorted_classes_and_takes_turns(tmp_path):
    for name, value in [("dog/a.png", 0), ("cat/b.png", 255), ("cat/a.png", 51), ("cat/notes.txt", None)]:
        if value is None:
            (tmp_path / name).write_text("not an image")
        else:
            picture(tmp_path / name, value=value)
    data = load_data(tmp_path)
    assert data.classes == ("cat", "dog")
    assert data.y.tolist() == [0, 1, 0]
    assert data.shape == (3, 4)
    assert data.x[:, 0, 0].tolist() == [pytest.approx(0.2), 0.0, 1.0]
    assert data.quantised


def test_colour_makes_all_images_colour(tmp_path):
    picture(tmp_path / "a" / "0.png")
    picture(tmp_path / "b" / "0.png", mode="RGB", value=(255, 0, 51))
    data = load_data(str(tmp_path))
    assert data.shape == (3, 4, 3)
    assert arrange(data, (3, 3, 4)).x[1, :, 0, 0].tolist() == [1.0, 0.0, pytest.approx(0.2)]


def test_wrong_image_folders(tmp_path):
    with pytest.raises(InputError, match="holds no images in sub-folders"):
        load_data(tmp_path)
    picture(tmp_path / "a" / "0.png")
    picture(tmp_path / "a" / "1.png", size=(5, 3))
    with pytest.raises(InputError, match=r"is 5 x 3 pixels but .* is 4 x 3"):
        load_data(tmp_path)
    (tmp_path / "a" / "1.png").write_text("no image")
    with pytest.raises(InputError, match="cannot be read as an image"):
        load_data(tmp_path)
    picture(tmp_path / "a" / "1.png", mode="I;16")
    with pytest.raises(InputError, match="more than 8 bits"):
        load_data(tmp_path)


@pytest.mark.parametrize("label", ["Label", "y", "class", "target"])
def test_csv_finds_its_label_column(tmp_path, label):
    (tmp_path / "d.csv").write_text(f"a,{label},b\n1,0,2.5\n3,1,4\n")
    data = load_data(tmp_path / "d.csv")
    assert data.x.tolist() == [[1.0, 2.5], [3.0, 4.0]]
    assert data.y.tolist() == [0, 1]
    assert data.notes == (f"The labels are the column '{label}'.",)


def test_csv_takes_the_last_column_and_numbers_words(tmp_path):
    (tmp_path / "d.csv").write_text("a,b,kind\n1,2,pear\n3,4,apple\n\n")
    data = load_data(tmp_path / "d.csv")
    assert data.y.tolist() == [1, 0]
    assert data.classes == ("apple", "pear")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a,b\n", "no rows below its header"),
        ("a\n1\n", "single column"),
        ("1,2\n3,4\n", "has no header"),
        (",a,y\n0,1,1\n", "column 1 has no name"),
        ("a,y\n1,1\n2\n", "data row 1 has 1 values, the header 2"),
        ("a,y\nred,1\n", "column 'a' of data row 0 is 'red', not a number"),
        ("a,y,label\n1,1,1\n", "several label columns"),
        ("a,y\n,1\n", "NaN"),
        ("a,y\n\x001\udcff,1\n", "not a number|cannot be read as csv"),
    ],
)
def test_wrong_csv_gets_one_sentence(tmp_path, text, says):
    (tmp_path / "d.csv").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError, match=says):
        load_data(tmp_path / "d.csv")
