"""Small files as each tool writes them, all of one scene: 6 x 8 pixels, a car before a road.

The words of the files follow the tools' documentation; the masks were worked out by hand.
"""

import base64
import io
import json
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from hrseg.convert.convert import ConvertOptions, convert
from hrseg.data.layouts import find_pairs
from hrseg.imaging import read_mask, write_image
from hrseg.labels import load_labels

SIZE = (6, 8)
ROAD, CAR = "road", "car"
SCENE = np.array(
    [
        [0, 0, 0, 0, 0, 0, 0, 0],
        [0, 2, 2, 2, 2, 0, 0, 0],
        [1, 2, 2, 2, 2, 1, 1, 1],
        [1, 1, 1, 1, 1, 1, 1, 1],
        [1, 1, 1, 1, 1, 1, 1, 1],
        [1, 1, 1, 1, 1, 1, 1, 1],
    ],
    np.uint8,
)
"""0 nothing, 1 road, 2 car; the car covers a part of the road."""
ROAD_BOX, CAR_BOX = (0, 2, 8, 6), (1, 1, 5, 3)


def corners(box):
    x0, y0, x1, y1 = box
    return [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]


def photo(path: Path, size=SIZE) -> Path:
    image = np.random.default_rng(3).integers(0, 255, (*size, 3), dtype=np.uint8)
    write_image(path, image)
    return path


def save(path: Path, content) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = content if isinstance(content, str) else json.dumps(content)
    path.write_text(text, encoding="utf-8")
    return path


def cvat_xml(root: Path, shapes: str = "", size=SIZE) -> Path:
    """CVAT for images 1.1, in the form of its documentation."""
    shapes = shapes or (
        '<polygon label="car" source="manual" occluded="0" points="1.00,1.00;5.00,1.00;5.00,3.00;1.00,3.00" '
        'z_order="1"></polygon>'
        '<box label="road" source="manual" occluded="0" xtl="0.00" ytl="2.00" xbr="8.00" ybr="6.00" z_order="0">'
        "</box>"
        '<points label="corner" source="manual" occluded="0" points="1.00,1.00" z_order="0"></points>'
    )
    photo(root / "images" / "a.png")
    return save(
        root / "annotations.xml",
        f"""<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta>
    <task>
      <id>7</id><name>street</name><size>1</size><mode>annotation</mode><overlap>0</overlap>
      <labels>
        <label><name>road</name><color>#804080</color><type>any</type><attributes></attributes></label>
        <label><name>car</name><color>#00008e</color><type>any</type><attributes></attributes></label>
        <label><name>corner</name><color>#ffffff</color><type>points</type><attributes></attributes></label>
      </labels>
    </task>
    <dumped>2024-05-01 10:00:00.000000+00:00</dumped>
  </meta>
  <image id="0" name="a.png" width="{size[1]}" height="{size[0]}">
    {shapes}
  </image>
</annotations>
""",
    )


def label_studio(root: Path, results, name="a.png") -> Path:
    photo(root / "a.png")
    common = {
        "original_width": SIZE[1],
        "original_height": SIZE[0],
        "image_rotation": 0,
        "from_name": "label",
        "to_name": "image",
        "origin": "manual",
    }
    return save(
        root / "export.json",
        [
            {
                "id": 1,
                "annotations": [
                    {
                        "id": 11,
                        "completed_by": 1,
                        "result": [common | result for result in results],
                        "was_cancelled": False,
                        "ground_truth": False,
                    }
                ],
                "predictions": [],
                "data": {"image": f"/data/upload/1/0a1b2c3d-{name}"},
                "project": 1,
            }
        ],
    )


def percent(box):
    return [[100 * x / SIZE[1], 100 * y / SIZE[0]] for x, y in corners(box)]


def studio_polygon(label, box, number="p1"):
    value = {"points": percent(box), "closed": True, "polygonlabels": [label]}
    return {"id": number, "type": "polygonlabels", "value": value}


def labelme(root: Path, shapes=None, name="a") -> Path:
    photo(root / f"{name}.png")
    if shapes is None:
        shapes = [
            labelme_shape(ROAD, [[0, 2], [8, 6]], "rectangle"),
            labelme_shape(CAR, corners(CAR_BOX), "polygon"),
            labelme_shape("corner", [[1, 1]], "point"),
        ]
    return save(
        root / f"{name}.json",
        {
            "version": "5.5.0",
            "flags": {},
            "shapes": shapes,
            "imagePath": f"{name}.png",
            "imageData": None,
            "imageHeight": SIZE[0],
            "imageWidth": SIZE[1],
        },
    )


def labelme_shape(label, points, kind, mask=None):
    return {
        "label": label,
        "points": points,
        "group_id": None,
        "description": "",
        "shape_type": kind,
        "flags": {},
        "mask": mask,
    }


def coco(root: Path, annotations=None, file="instances_train2017.json") -> Path:
    photo(root / "train2017" / "000000000001.png")
    if annotations is None:
        flat = [[v for point in corners(box) for v in point] for box in (CAR_BOX, ROAD_BOX)]
        annotations = [
            coco_object(1, 3, [flat[0]]),  # the smaller one comes first, and must stay visible
            coco_object(2, 1, [flat[1]]),
        ]
    return save(
        root / "annotations" / file,
        {
            "info": {"year": 2017, "version": "1.0"},
            "licenses": [{"id": 1, "name": "CC", "url": ""}],
            "images": [
                {
                    "id": 1,
                    "file_name": "000000000001.png",
                    "height": SIZE[0],
                    "width": SIZE[1],
                    "license": 1,
                }
            ],
            "annotations": annotations,
            "categories": [
                {"id": 3, "name": CAR, "supercategory": "vehicle"},
                {"id": 1, "name": ROAD, "supercategory": "ground"},
            ],
        },
    )


def coco_object(number, category, segmentation, crowd=0):
    return {
        "id": number,
        "image_id": 1,
        "category_id": category,
        "segmentation": segmentation,
        "area": 8.0,
        "bbox": [0, 0, 1, 1],
        "iscrowd": crowd,
    }


def yolo(root: Path, lines=None, names=("a", "b")) -> Path:
    for name, split in zip(names, ("train", "val"), strict=False):
        photo(root / "images" / split / f"{name}.png")
    (root / "images/val").mkdir(parents=True, exist_ok=True)
    if lines is None:
        lines = []
        for number, box in ((1, CAR_BOX), (0, ROAD_BOX)):
            shares = [f"{x / SIZE[1]:.6f} {y / SIZE[0]:.6f}" for x, y in corners(box)]
            lines.append(" ".join([str(number), *shares]))
    save(root / "labels" / "train" / "a.txt", "\n".join(lines))
    return save(
        root / "data.yaml",
        "path: .\ntrain: images/train\nval: images/val\nnames:\n  0: road\n  1: car\n",
    )


def cityscapes(root: Path, objects=None, size=(16, 24)) -> Path:
    stem = "aachen_000000_000019"
    photo(root / "leftImg8bit/train/aachen" / f"{stem}_leftImg8bit.png", size)
    if objects is None:
        objects = [
            {"label": "road", "polygon": [[0, 8], [24, 8], [24, 16], [0, 16]]},
            {"label": "cargroup", "polygon": [[3, 4], [14, 5], [12, 12], [2, 11]]},
            {"label": "license plate", "polygon": [[5, 9], [8, 9], [8, 10], [5, 10]]},
            {"label": "ego vehicle", "polygon": [[0, 14], [23, 14], [23, 15], [0, 15]]},
            {"label": "person", "polygon": [[18, -3], [22, 2], [20, 9], [17, 7]]},
        ]
    content = {"imgHeight": size[0], "imgWidth": size[1], "objects": objects}
    save(root / f"gtFine/train/aachen/{stem}_gtFine_polygons.json", content)
    return root


def datumaro(root: Path, annotations=None, subset="train", name="a") -> Path:
    """A dataset of Datumaro's, in the form that its exporter writes."""
    photo(root / "images" / subset / f"{name}.png")
    if annotations is None:
        flat = [value for point in corners(CAR_BOX) for value in point]
        annotations = [
            {"id": 0, "type": "polygon", "label_id": 1, "points": flat, "z_order": 1},
            {"id": 0, "type": "bbox", "label_id": 0, "bbox": [0, 2, 8, 4], "z_order": 0},
            {"id": 0, "type": "label", "label_id": 0},
        ]
    labels = [{"name": name, "parent": "", "attributes": []} for name in (ROAD, CAR)]
    content = {
        "dm_format_version": "1.0",
        "media_type": 2,
        "infos": {},
        "categories": {
            "label": {"labels": labels, "label_groups": [], "attributes": []},
            "mask": {"colormap": [{"label_id": 1, "r": 0, "g": 0, "b": 142}]},
        },
        "items": [
            {
                "id": name,
                "annotations": [{"attributes": {}, "group": 0} | row for row in annotations],
                "image": {"path": f"{name}.png", "size": list(SIZE)},
            }
        ],
    }
    save(root / "annotations" / f"{subset}.json", content)
    return root


def bitmap(mask) -> str:
    """A mask as Supervisely packs it: PNG with a palette, zlib, base64."""
    image = Image.fromarray(mask.astype(np.uint8))
    image.putpalette([0, 0, 0, 255, 255, 255])
    data = io.BytesIO()
    image.save(data, "PNG", transparency=0)
    return base64.b64encode(zlib.compress(data.getvalue())).decode()


def supervisely(root: Path, objects=None) -> Path:
    """A project of Supervisely's with one dataset."""
    photo(root / "ds" / "img" / "a.png")
    x0, y0, x1, y1 = ROAD_BOX
    if objects is None:
        ends = [[x0, y0], [x1 - 1, y1 - 1]]  # pixels that belong to it
        x0, y0, x1, y1 = CAR_BOX
        car = np.ones((y1 - y0, x1 - x0), bool)
        objects = [
            sly_object(ROAD, "rectangle", points={"exterior": ends, "interior": []}),
            sly_object(CAR, "bitmap", bitmap={"data": bitmap(car), "origin": [x0, y0]}),
            sly_object("corner", "point", points={"exterior": [[1, 1]], "interior": []}),
        ]
    meta = [
        (ROAD, "polygon", "#804080"),
        (CAR, "bitmap", "#00008E"),
        ("corner", "point", "#FFFFFF"),
    ]
    classes = [{"title": title, "shape": shape, "color": color} for title, shape, color in meta]
    save(root / "meta.json", {"classes": classes[:2], "tags": [], "projectType": "images"})
    size = {"height": SIZE[0], "width": SIZE[1]}
    save(
        root / "ds" / "ann" / "a.png.json",
        {"description": "", "tags": [], "size": size, "objects": objects},
    )
    return root


def sly_object(label, kind, **shape):
    return {"id": 5, "classTitle": label, "geometryType": kind, "tags": [], **shape}


def darwin(root: Path, annotations=None) -> Path:
    """A file of V7 Darwin's, version 2.0, with its image in images/."""
    photo(root / "images" / "a.png")
    if annotations is None:
        x, y, right, bottom = ROAD_BOX
        rim = {"x": x, "y": y, "w": right - x, "h": bottom - y}
        annotations = [
            {"id": "r", "name": ROAD, "bounding_box": rim, "slot_names": ["0"]},
            {"id": "c", "name": CAR, "polygon": {"paths": [points(CAR_BOX)]}, "slot_names": ["0"]},
            {"id": "t", "name": "day", "tag": {}, "slot_names": ["0"]},
        ]
    slot = {"type": "image", "slot_name": "0", "width": SIZE[1], "height": SIZE[0]}
    source = {"file_name": "a.png", "url": "https://example.com/a"}
    return save(
        root / "a.json",
        {
            "version": "2.0",
            "schema_ref": "https://example.com/darwin_json/2.0/schema.json",
            "item": {"name": "a.png", "path": "/", "slots": [slot | {"source_files": [source]}]},
            "annotations": annotations,
        },
    )


def points(box):
    return [{"x": x, "y": y} for x, y in corners(box)]


def segments_ai(root: Path, annotations=None, bitmap_url=None, **sample) -> Path:
    """A release file of Segments.ai's."""
    photo(root / "a.png")
    if annotations is None:
        annotations = [
            {"id": 1, "category_id": 1, "type": "polygon", "points": corners(ROAD_BOX)},
            {"id": 2, "category_id": 2, "type": "bbox", "points": [[1, 1], [5, 3]]},
            {"id": 3, "category_id": 2, "type": "point", "points": [[1, 1]]},
        ]
    attributes = {"format_version": "0.1", "annotations": annotations}
    if bitmap_url:
        attributes["segmentation_bitmap"] = {"url": bitmap_url}
    label = {"label_status": "LABELED", "attributes": attributes}
    row = {
        "uuid": "u",
        "name": "a.png",
        "attributes": {"image": {"url": "https://example.com/assets/a.png"}},
        "metadata": {},
        "labels": {"ground-truth": label},
    } | sample
    categories = [
        {"id": 1, "name": ROAD, "color": [128, 64, 128]},
        {"id": 2, "name": CAR, "color": [0, 0, 142]},
    ]
    return save(
        root / "me-street-v1.json",
        {
            "name": "v1",
            "dataset": {
                "owner": "me",
                "name": "street",
                "task_type": "segmentation-bitmap" if bitmap_url else "vector",
                "task_attributes": {"format_version": "0.1", "categories": categories},
                "labelsets": [{"name": "ground-truth"}],
                "samples": [row],
            },
        },
    )


def converted(path, tmp_path, split="train", **choice):
    """Convert, and return the only mask of a split with the classes."""
    out = tmp_path / "out"
    report = convert(path, out, ConvertOptions(**choice))
    (pair,) = find_pairs("folder", out, split)
    return read_mask(pair.mask), load_labels(out / "labels.yaml"), report
