"""The files that people have their classes in already, as tools write them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from masqclip.clip.category import Category
from masqclip.clip.name_limits import NameLimits
from masqclip.clip.vocabulary import Vocabulary
from masqclip.errors import MasqclipError

NAMES = ("person", "traffic light", "dog")

FILES = {
    "coco.names": "person\ntraffic light\ndog\n",
    "windows.txt": "person\r\n\r\ntraffic light\r\ndog\r\n",
    "commented.txt": "# classes\nperson\n\n  # lights\ntraffic light  # red\ndog",
    "one-line.txt": "person, traffic light, dog",
    "trailing.txt": "person,\ntraffic light,\ndog,\n",
    "wrapped.txt": "# mine\nperson, traffic light,\n  dog",
    "quoted.txt": '"person",\n"traffic light",\n"dog"',
    "numbered.txt": "0 person\n1 traffic light\n2 dog\n",
    "counted.txt": "1. person\n2. traffic light\n3. dog\n",
    "coloured.txt": "# label:color_rgb:parts:actions\nbackground:0,0,0::\nperson:1,2,3::\n"
    "traffic light:4,5,6::\ndog:7,8,9::\n",
    "labelme.txt": "__ignore__\n_background_\nperson\ntraffic light\ndog\n",
    "list.txt": '["person", "traffic light", "dog"]',
    "no-suffix": "person\ntraffic light\ndog",
    "data.yaml": "train: ../train\nval: ../val\nnc: 3\n"
    "names: ['person', 'traffic light', \"dog\"]\n",
    "data2.yaml": "# COCO\npath: ../coco\nnames:\n  0: person # the first\n  1: traffic light\n"
    "  2: dog\ndownload: |\n  import os\n  # a script: [1, 2]\n",
    "data3.yml": "names: [ person,\n  'traffic light',\n  dog,\n]\nnc: 3",
    "data4.yaml": "names: {2: dog, 0: person, 1: 'traffic light'}",
    "data5.yaml": "names:\n- person\n- traffic light\n- dog\n",
    "data6.yaml": "- person\n- traffic light\n- dog\n",
    "classes.csv": "id,name\n0,person\n1,traffic light\n2,dog\n",
    "names.csv": "name,id\nperson,0\ntraffic light,1\ndog,2\n",
    "only.csv": "name\nperson\ntraffic light\ndog\n",
    "semicolons.csv": "sep=;\nId;Class Name;Colour\n0;person;#ff0000\n"
    "1;traffic light;#00ff00\n2;dog;\n",
    "tabs.tsv": "label\tname\n0\tperson\n1\ttraffic light\n2\tdog\n",
    "order.csv": "id,name\n2,dog\n0,person\n1,traffic light\n",
    "bare.csv": "person,0\ntraffic light,1\ndog,2\n",
    "codes.csv": "/m/01g317,person\n/m/015qff,traffic light\n/m/0bt9lr,dog\n",
    "other-words.csv": "Nr,Bezeichnung\n0,person\n1,traffic light\n2,dog\n",
    "line.csv": "person,traffic light,dog\n",
    "_classes.csv": "filename, person, traffic light, dog\na.jpg, 1, 0, 0\nb.jpg, 0, 1, 1\n",
    "_classes2.csv": "Pixel Value, Class\n0, background\n1, person\n2, traffic light\n3, dog\n",
    "list.json": '["person", "traffic light", "dog"]',
    "map.json": '{"0": "person", "2": "dog", "1": "traffic light"}',
    "back.json": '{"dog": 2, "person": 0, "traffic light": 1}',
    "config.json": '{"model_type": "x", "id2label": {"0": "person", "1": "traffic light",'
    ' "2": "dog"}, "label2id": {"dog": 2}}',
    "label2id.json": '{"label2id": {"dog": 2, "person": 0, "traffic light": 1}}',
    "cvat.json": '[{"name": "person", "id": 4, "attributes": []}, {"name": "traffic light",'
    ' "id": 5, "color": "#fff"}, {"name": "dog", "id": 6}]',
    "meta.json": '{"classes": [{"title": "person", "shape": "any"}, {"title": "traffic light"},'
    ' {"title": "dog"}]}',
    "instances.json": '{"info": {}, "images": [], "annotations": [{"id": 1}], "categories": ['
    '{"id": 18, "name": "dog"}, {"id": 1, "name": "person"}, {"id": 10, "name": "traffic light"}]}',
    "names.toml": 'nc = 3\nnames = ["person", "traffic light", "dog"]',
    "config.xml": '<View><!-- mine --><Image name="i" value="$i"/><BrushLabels name="b" toName="i">'
    '<Label value="person"/><Label value="traffic light" background="red"/><Label value="dog"/>'
    '</BrushLabels><PolygonLabels name="p" toName="i">'
    '<Label value="person"/></PolygonLabels></View>',
    "annotations.xml": '<?xml version="1.0" encoding="utf-8"?><annotations><meta><task><labels>'
    "<label><name>person</name><color>#f00</color></label><label><name>traffic light</name></label>"
    '<label><name>dog</name></label></labels></task></meta><image><polygon label="dog"/></image>'
    "</annotations>",
    "label_map.pbtxt": "item {\n  id: 2\n  name: '/m/1'\n  display_name: 'traffic light'\n}\n"
    "item {\n  name: \"person\"\n  id: 1\n}\nitem { id: 3 name: 'dog' }\n",
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_the_names_of_a_file(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"):
        file.write_bytes(FILES[name].encode(encoding))
        for source in (file, str(file)):
            words = Vocabulary.parse(source)
            assert words == Vocabulary(tuple(map(Category, NAMES))), encoding


def test_what_a_file_says_of_things_and_prompts(tmp_path: Path) -> None:
    panoptic = tmp_path / "panoptic.json"
    entries = [{"id": 1, "name": "car", "isthing": 1}, {"id": 2, "name": "sky", "isthing": 0}]
    panoptic.write_text(json.dumps({"categories": entries, "annotations": []}))
    words = Vocabulary.parse(panoptic)
    assert (words.names, words.stuff_ids) == (("car", "sky"), {1})
    ontology = tmp_path / "ontology.yaml"
    ontology.write_text("box: [crate, carton]\n'stuff: road': [street]\n")
    assert Vocabulary.parse(ontology).categories == (
        Category("box", ("crate", "carton")),
        Category("road", ("street",), thing=False),
    )


def test_names_are_what_stands_there(tmp_path: Path) -> None:
    """No truths, numbers or nothings of YAML; commas, colons and marks of comments in quotes."""
    odd = ["no", "yes", "1e3", "0x10", "null", "a: b", "# a", "it's", "red, green", "TCP/IP", "C#"]
    (tmp_path / "a.yaml").write_text(f"names: {json.dumps(odd)}")
    (tmp_path / "b.yaml").write_text("names: [no, yes, 1e3, 0x10, 'null', on]")
    (tmp_path / "c.csv").write_text(
        "id,name\n" + "".join(f'{i},"{n}"\n' for i, n in enumerate(odd))
    )
    (tmp_path / "d.txt").write_text("\n".join(f'"{n}"' for n in odd if "# " not in n))
    (tmp_path / "e.names").write_text("red, green\nTCP/IP\na = b")
    assert list(Vocabulary.parse(tmp_path / "a.yaml").names) == odd
    assert list(Vocabulary.parse(tmp_path / "b.yaml").names) == [*odd[:5], "on"]
    assert list(Vocabulary.parse(tmp_path / "c.csv").names) == odd
    assert list(Vocabulary.parse(tmp_path / "d.txt").names) == [n for n in odd if "# " not in n]
    assert Vocabulary.parse(tmp_path / "e.names").names == ("red, green", "TCP/IP", "a = b")
    (tmp_path / "e.names").write_text("red, green")  # a line by itself is a list
    assert Vocabulary.parse(tmp_path / "e.names").names == ("red", "green")


def test_lines_keep_their_synonyms(tmp_path: Path) -> None:
    file = tmp_path / "words.txt"
    file.write_text('truck, lorry\nTCP/IP, internet\n"red, green", both\n1 euro\n2 euro\n')
    assert Vocabulary.parse(file).categories == (
        Category("truck", ("truck", "lorry")),
        Category("TCP/IP", ("TCP/IP", "internet")),
        Category("red, green", ("red, green", "both")),
        Category("1 euro"),
        Category("2 euro"),
    )
    file.write_text("1 euro\n2 euro\n")
    assert Vocabulary.parse(file).names == ("1 euro", "2 euro")


def test_categories_of_annotations_larger_than_what_is_read(tmp_path: Path) -> None:
    file = tmp_path / "instances.json"
    annotations = [{"id": i, "segmentation": [[0, 0, 1, 1]]} for i in range(2000)]
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    file.write_text(json.dumps({"annotations": annotations, "categories": categories}))
    limits = NameLimits(text_bytes=5_000)
    assert file.stat().st_size > 10 * limits.text_bytes
    assert Vocabulary.parse(file, limits=limits).names == ("cat", "dog")
    # So many brackets are no vocabulary either, but for their categories.
    assert Vocabulary.parse(file, limits=NameLimits(names=100)).names == ("cat", "dog")
    file.write_text(json.dumps({"annotations": annotations}))
    with pytest.raises(MasqclipError, match=r"larger than the limit .* and no COCO annotations"):
        Vocabulary.parse(file, limits=limits)
    file.write_text(json.dumps(annotations)[:-1] + ', "categories": [{"id": 1, "name": ')
    with pytest.raises(MasqclipError, match="categories are no valid JSON"):
        Vocabulary.parse(file, limits=limits)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.yaml", "train: a\nval: b\nnc: 3\n", "holds no names, but 'train'"),
        ("a.yaml", "names: 3\n", "holds no names, but 'names'"),
        ("a.yaml", "names: [a, [b]]", r"name 2 of .* is \['b'\], not a string"),
        ("a.yaml", "names: [a, b, a]", "'a' is given twice"),
        ("a.yaml", "names: [a, , b]", "is no valid YAML: line 1"),
        ("a.yaml", "names: [a\nnc: 2", "is no valid YAML"),
        ("a.yaml", "x: &a [b, c]\nnames: *a", r"write \*a out"),
        ("a.yaml", "names: [a]\n---\nnames: [b]", "2 YAML documents"),
        ("a.yaml", "names: [a]\nnames: [b]", "'names' stands twice"),
        ("a.yaml", "[" * 100_000, "nested too deeply|nesting depth|more than the limit"),
        ("a.yaml", "- " * 100_000, "nested too deeply|nesting depth"),
        ("a.yaml", "names: [background]", "no name but the background"),
        ("a.yaml", "#\n" * 300_000, "500,000"),
        ("a.csv", "id,name\n0,\n1,cat", "name 1 of .* is empty"),
        ("a.csv", "a,b,c\nd,e,f\n", "does not say which column"),
        ("a.csv", 'id,name\n0,"' + "x" * 200_000, "is no table"),
        ("a.csv", "id,name\n0,cat\n1,cat", "'cat' is given twice"),
        ("a.csv", "\n\n", "holds no name"),
        ("a.json", '{"classes": {"cat": [1]}}', "its classes are"),
        ("a.json", '[{"id": 1}]', "an entry has no name"),
        ("a.json", '{"names": ["cat", 3]}', "name 2 of .* is 3"),
        ("a.xml", "<View/>", "holds no labels"),
        ("a.xml", "<View", "no XML"),
        ("a.xml", '<!DOCTYPE x [<!ENTITY a "b">]><View/>', "DOCTYPE"),
        ("a.pbtxt", "item { id: 3 }", "an item has no name"),
        ("a.pbtxt", "", "holds no item"),
        ("a.pdf", "%PDF", "a kind that is not read: give .txt"),
        ("a.md", "- cat", "a kind that is not read"),
        ("a.txt", "caf\u00e9\ud800", "is not UTF-8 text"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_bytes(content.encode("utf-8", "surrogatepass"))
    with pytest.raises(MasqclipError, match=message) as caught:
        Vocabulary.parse(tmp_path / name)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    "path",
    [
        "classes.yaml", "lists/classes.yaml", "./x", "../x", "/nowhere/x", "~/no-such-file-there",
        "C:\\x", "C:/x", ".\\x", "coco.names", "my classes.csv", "classes.xlsx", "a.pbtxt",
        "s3://bucket/names", "lists/of/mine",
    ],
)  # fmt: skip
def test_a_missing_file_is_no_word(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MasqclipError, match=r"no vocabulary file .* double quotes"):
        Vocabulary.parse(path)
    for written in (f'"{path}"', [path]):
        assert Vocabulary.parse(written).names == (path,)
    assert Vocabulary.parse(path, files=False).names == (path,)


def test_a_slash_is_part_of_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("TCP/IP", "and/or sign", "24/7", "km/h"):
        assert Vocabulary.parse(name).names == (name,)
        assert Vocabulary.parse(f"{name}, car").names == (name, "car")
        assert Vocabulary.parse(f"{name}, synonym\ncar").categories[0].prompts == (name, "synonym")
    (tmp_path / "lists").mkdir()
    with pytest.raises(MasqclipError, match="no vocabulary file 'lists/street'"):
        Vocabulary.parse("lists/street")
    (tmp_path / "lists/street").write_text("car\nroad")
    assert Vocabulary.parse("lists/street").names == ("car", "road")
    assert Vocabulary.parse("lists/street", files=False).names == ("lists/street",)


@pytest.mark.parametrize("document", [{"names": []}, {"labels": []}, {"classes": "cat"}])
def test_a_list_of_classes_without_one_is_no_class_itself(document: dict[str, object]) -> None:
    with pytest.raises(MasqclipError, match=r"name what to look for|give a list of names"):
        Vocabulary.parse(document)  # type: ignore[arg-type]
