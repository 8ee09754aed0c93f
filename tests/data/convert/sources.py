"""Small files as each tool writes them, all of one scene: 6 x 8 pixels, a car before a road.

The words of the files follow the tools' documentation; the masks were worked out by hand.
"""

import json
from pathlib import Path

import numpy as np

from hrseg.imaging import write_image

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
