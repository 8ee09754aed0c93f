"""The same classes as every tool writes them: (file name, content). Ids are 0, 1, 2 and names NAMES."""

NAMES = ["background", "road", "parked car"]
COLORS = [(0, 0, 0), (128, 64, 128), (0, 0, 142)]

FORMS = {
    "names alone": ("classes.txt", "background\nroad\nparked car\n"),
    "names in quotes": ("classes.txt", "\"background\",\n'road',\n'parked car'\n"),
    "id first, blank": ("labels.txt", "0 background\n1 road\n2 parked car\n"),
    "id first, colon": ("class_names.txt", "0: background\n1: road\n2: parked car\n"),
    "id first, tab": ("classes.txt", "0\tbackground\n1\troad\n2\tparked car\n"),
    "id first, comma, no header": ("classes.csv", "0,background\n1,road\n2,parked car\n"),
    "name first, tab": ("classes.txt", "background\t0\nroad\t1\nparked car\t2\n"),
    "name first, equals": ("classes.txt", "background = 0\nroad = 1\nparked car = 2\n"),
    "class,id": ("classes.csv", "class,id\nbackground,0\nroad,1\nparked car,2\n"),
    "id;name": ("classes.csv", "ID;Name\n0;background\n1;road\n2;parked car\n"),
    "label,class": ("classes.csv", "label,class\n0,background\n1,road\n2,parked car\n"),
    "value, tab": ("labels.csv", "Value\tLabel\n0\tbackground\n1\troad\n2\tparked car\n"),
    "Roboflow": ("_classes.csv", "Pixel Value, Class\n0, background\n1, road\n2, parked car\n"),
    "Label Studio's quotes": (
        "classes.csv",
        '"id","name"\r\n"0","background"\r\n"1","road"\r\n"2","parked car"\r\n',
    ),
    "comments": ("classes.txt", "# mine\n\n0 background\n# the rest\n1 road\n2 parked car\n"),
    "BOM": ("classes.txt", "\ufeffbackground\nroad\nparked car\n"),
    "old Mac lines": ("classes.txt", "background\rroad\rparked car\r"),
    "CVAT": (
        "labelmap.txt",
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\nroad:128,64,128::\nparked car:0,0,142:a,b:c\n",
    ),
    "CamVid": (
        "label_colors.txt",
        "0 0 0\t\tbackground\n128 64 128\troad\n0 0 142\tparked car\n",
    ),
    "name r g b": ("colors.txt", "background 0 0 0\nroad 128 64 128\nparked car 0 0 142\n"),
    "id name r g b": (
        "colors.txt",
        "0,background,0,0,0\n1,road,128,64,128\n2,parked car,0,0,142\n",
    ),
    "class_dict.csv": (
        "class_dict.csv",
        "name,r,g,b\nbackground,0,0,0\nroad,128,64,128\nparked car,0,0,142\n",
    ),
    "columns by blanks": (
        "labels.txt",
        "id name r g b\n0 background 0 0 0\n1 road 128 64 128\n2 parked car 0 0 142\n",
    ),
    "hexadecimal": ("colors.txt", "background #000000\nroad #804080\nparked car #00008E\n"),
    "hexadecimal column": (
        "classes.csv",
        "name,color\nbackground,#000000\nroad,#804080\nparked car,#00008e\n",
    ),
    "QGIS": (
        "colors.txt",
        "# QGIS Generated Color Map Export File\nINTERPOLATION:EXACT\n"
        "0,0,0,0,255,background\n1,128,64,128,255,road\n2,0,0,142,255,parked car\n",
    ),
    "ITK-SNAP": (
        "labels.txt",
        '# ITK-SnAP Label Description File\n    0     0    0    0        0  0  0    "background"\n'
        '    1   128   64  128        1  1  1    "road"\n    2     0    0  142        1  1  1    "parked car"\n',
    ),
    "3D Slicer": (
        "colors.txt",
        '# Color table\n0 background 0 0 0 0\n1 road 128 64 128 255\n2 "parked car" 0 0 142 255\n',
    ),
    "YOLO list": ("data.yaml", "train: images\nnc: 3\nnames: [background, road, parked car]\n"),
    "YOLO numbers": ("data.yaml", "names:\n  0: background\n  1: road\n  2: parked car\n"),
    "labels.yaml": ("labels.yaml", "classes: [background, road, parked car]\n"),
    "labels.yaml, rows": (
        "labels.yaml",
        "classes:\n- {id: 0, name: background, color: [0, 0, 0]}\n- {id: 1, name: road, color: [128, 64, 128]}\n"
        "- {id: 2, name: parked car, color: '#00008E', mirror: null}\n",
    ),
    "labels.yaml, by name": ("labels.yaml", "classes: {background: 0, road: 1, parked car: 2}\n"),
    "labels.csv": (
        "labels.csv",
        "id,train_id,name,r,g,b\n0,0,background,0,0,0\n1,1,road,128,64,128\n2,2,parked car,0,0,142\n",
    ),
    "Cityscapes' columns": (
        "labels.csv",
        'name,id,trainId,color\nbackground,0,0,"(0, 0, 0)"\nroad,1,1,"(128, 64, 128)"\nparked car,2,2,"(0, 0, 142)"\n',
    ),
}

ENCODINGS = {
    "UTF-8": ("utf-8", "Straße\nprzejście\nдорога\n"),
    "UTF-8 with BOM": ("utf-8-sig", "Straße\nдорога\n"),
    "UTF-16 with BOM": ("utf-16", "Straße\nдорога\n"),
    "UTF-16 little": ("utf-16-le", "Strasse\nroad\n"),
    "UTF-16 big": ("utf-16-be", "Strasse\nroad\n"),
    "cp1251": ("cp1251", "дорога\nАвтомобиль\nbus\n"),
    "cp1252": ("cp1252", "Straße\nforêt d’été\nbus\n"),
}

BROKEN = {
    "a name twice": ("classes.txt", "car\nroad\ncar\n", "line 3.*'car' stands twice"),
    "a name twice in YAML": ("labels.yaml", "classes:\n- car\n- road\n- car\n", "line 4.*twice"),
    "an id twice": ("classes.txt", "1 road\n1 car\n", "classes.txt.*id 1 twice"),
    "a key twice": ("data.yaml", "names: {0: a, 0: b}\n", "line 1.*'0' stands twice"),
    "YAML with a slip": ("labels.yaml", "classes:\n- [a\n- b\n", "labels.yaml, line"),
    "a control sign": ("classes.txt", "road\n\x1b[31mcar\n", r"line 2.*'\\x1b'"),
    "a control sign in YAML": ("labels.yaml", 'classes: ["a\\nb", c]\n', r"line 1.*'\\n'"),
    "text direction": ("classes.txt", "road\nca\u202er\n", r"line 2.*u202e"),
    "a name without end": ("classes.txt", "road\n" + "x" * 400 + "\n", "line 2.*400 letters"),
    "a line without end": ("classes.txt", "road\n" + "1 " * 2000 + "\n", "line 2.*letters"),
    "a missing color": ("colors.txt", "road 1 2 3\ncar\n", "line 2.*another way.*line 1"),
    "half a color": ("colors.txt", "road 1 2\ncar 3 4\n", "line 1.*no class"),
    "no color": ("class_dict.csv", "name,r,g,b\nroad,1,2,256\n", "line 2.*no color"),
    "no whole number": ("classes.csv", "id,name\n0,a\n1.5,b\n", "line 3.*'1.5'"),
    "fractions": ("colors.txt", "0.5 0.5 0.5 road\n0 0 0 car\n", "line 1"),
    "brackets": ("colors.txt", "road (1, 2, 3)\ncar (4, 5, 6)\n", "line 1.*no known meaning"),
    "numbers alone": ("colors.txt", "0,1,2,3\n1,4,5,6\n", "line 1.*no known meaning"),
    "columns of nothing": ("classes.txt", "road;Straße\ncar;Auto\n", "line 1.*columns"),
    "an unknown column": (
        "labels.csv",
        "id,name,weight\n0,a,1\n1,b,2\n",
        "line 1.*'weight' is unknown",
    ),
    "a quote": ("classes.csv", 'id,name\n0,"road\n1,car\n', "line 2"),
    "a huge number": (
        "labels.yaml",
        "classes: [{id: " + "9" * 5000 + ", name: a}]\n",
        "whole number",
    ),
    "a list for a name": ("labels.yaml", "classes:\n- [a]\n- b\n", "line 2"),
    "a list for an id": ("labels.yaml", "classes: [{id: [1], name: a}]\n", "'id'.*list"),
    "a list for all": ("labels.yaml", "classes: {a: {b: c}}\n", "line 1"),
    "a word for all": ("labels.yaml", "classes: road\n", "no list under 'classes'"),
    "a list as a key": ("labels.yaml", "? [a]\n: b\n", "line 1"),
    "nested without end": ("labels.yaml", "classes: " + "[" * 5000, "nest"),
    "itself": ("labels.yaml", "classes: &a [*a]\n", "nest"),
    "growing aliases": (
        "labels.yaml",
        "a0: &a0 [x]\n"
        + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 30))
        + "classes: *a29\n",
        "'a0' is unknown",
    ),
    "growing aliases as names": (
        "data.yaml",
        "a0: &a0 [x]\n"
        + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 30))
        + "names: *a29\n",
        "line 1",
    ),
    "two documents": ("labels.yaml", "classes: [a]\n---\nb: c\n", "labels.yaml"),
    "empty": ("labels.yaml", "", "labels.yaml"),
    "a header alone": ("class_dict.csv", "name,r,g,b\n", "no class in it"),
    "comments alone": ("classes.txt", "# nothing\n", "no class in it"),
    "300 classes": ("classes.txt", "".join(f"c{i:03}x\n" for i in range(300)), "more than 255"),
}
"""(file name, content, what the message says)."""
BINARY = {
    "GBK": ("classes.txt", "道路\n汽车\n".encode("gbk")),
    "a picture": ("classes.txt", b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\xff\xd8"),
    "two megabytes": ("classes.txt", b"road\n" * 400_000),
}
