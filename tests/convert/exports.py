"""The scene of `sources` as more tools write it."""

import csv
import io
import json
from pathlib import Path

import numpy as np

from hrseg.imaging import write_image, write_mask
from tests.convert import sources as s

CAR = s.corners(s.CAR_BOX)
ROAD = s.corners(s.ROAD_BOX)
HEIGHT, WIDTH = s.SIZE


def labelbox_row(objects, name="a.png", **label):
    """A data row of Labelbox's export of images, as its documentation shows it."""
    return {
        "data_row": {
            "id": "cl01",
            "external_id": name,
            "row_data": f"https://x.example/{name}?k=1",
        },
        "media_attributes": {"height": HEIGHT, "width": WIDTH, "mime_type": "image/png"},
        "projects": {
            "clp": {
                "name": "street",
                "labels": [
                    {
                        "label_kind": "Default",
                        "id": "cll",
                        "label_details": {"created_at": "2024-04-08T16:21:26.000+00:00"},
                        "annotations": {"objects": objects, "classifications": []},
                        **label,
                    }
                ],
            }
        },
    }


def labelbox_object(name, kind, **shape):
    return {"feature_id": f"cf{name}", "name": name, "value": name, "annotation_kind": kind} | shape


def labelbox(root: Path, objects=None) -> Path:
    s.photo(root / "a.png")
    if objects is None:
        box = {"top": 2.0, "left": 0.0, "height": 4.0, "width": 8.0}
        polygon = [{"x": x, "y": y} for x, y in [*CAR, CAR[0]]]
        objects = [
            labelbox_object(s.ROAD, "ImageBoundingBox", bounding_box=box),
            labelbox_object(s.CAR, "ImagePolygon", polygon=polygon),
            labelbox_object("corner", "ImagePoint", point={"x": 1, "y": 1}),
        ]
    return s.save(root / "export.ndjson", json.dumps(labelbox_row(objects)) + "\n")


def superannotate_classes(root: Path) -> None:
    rows = [
        {"id": 7, "name": s.ROAD, "color": "#804080", "attribute_groups": []},
        {"id": 8, "name": s.CAR, "color": "#00008e", "attribute_groups": []},
    ]
    s.save(root / "classes/classes.json", rows)


def superannotate(root: Path, instances=None, name="a.png") -> Path:
    superannotate_classes(root)
    s.photo(root / name)
    if instances is None:
        x0, y0, x1, y1 = s.ROAD_BOX
        instances = [
            {
                "type": "bbox",
                "classId": 7,
                "className": s.ROAD,
                "points": {"x1": x0, "y1": y0, "x2": x1, "y2": y1},
            },
            {
                "type": "polygon",
                "classId": 8,
                "className": s.CAR,
                "points": [v for point in CAR for v in point],
                "exclude": [],
            },
            {"type": "point", "classId": 8, "className": s.CAR, "x": 1, "y": 1},
        ]
    metadata = {"name": name, "width": WIDTH, "height": HEIGHT, "status": "Completed"}
    content = {"metadata": metadata, "comments": [], "tags": [], "instances": instances}
    s.save(root / f"{name}___objects.json", content)
    return root


def via_region(label, shape):
    return {"shape_attributes": shape, "region_attributes": {"class": label}}


def via_regions():
    x, y = ([point[axis] for point in CAR] for axis in (0, 1))
    left, top, right, bottom = s.ROAD_BOX
    rect = {"name": "rect", "x": left, "y": top, "width": right - left, "height": bottom - top}
    return [
        via_region(s.ROAD, rect),
        via_region(s.CAR, {"name": "polygon", "all_points_x": x, "all_points_y": y}),
        via_region("corner", {"name": "point", "cx": 1, "cy": 1}),
    ]


def via(root: Path, regions=None) -> Path:
    s.photo(root / "a.png")
    regions = via_regions() if regions is None else regions
    entry = {"filename": "a.png", "size": 99, "regions": regions, "file_attributes": {}}
    return s.save(root / "via_region_data.json", {"a.png99": entry})


def via_csv(root: Path, regions=None) -> Path:
    s.photo(root / "a.png")
    regions = via_regions() if regions is None else regions
    rows = [
        {
            "filename": "a.png",
            "file_size": 99,
            "file_attributes": "{}",
            "region_count": len(regions),
            "region_id": index,
            "region_shape_attributes": json.dumps(region["shape_attributes"]),
            "region_attributes": json.dumps(region["region_attributes"]),
        }
        for index, region in enumerate(regions)
    ]
    return table(root / "via.csv", rows)


def table(path: Path, rows) -> Path:
    """Write rows as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return s.save(path, text.getvalue())


def isat(root: Path, objects=None) -> Path:
    s.photo(root / "a.png")
    if objects is None:
        objects = [
            {"category": s.CAR, "group": 1, "segmentation": CAR, "layer": 2.0, "iscrowd": 0},
            {"category": s.ROAD, "group": 2, "segmentation": ROAD, "layer": 1.0, "iscrowd": False},
        ]
    info = {"description": "ISAT", "folder": "/x", "name": "a.png", "width": WIDTH}
    info |= {"height": HEIGHT, "depth": 3, "note": ""}
    return s.save(root / "a.json", {"info": info, "objects": objects})


def qupath_feature(label, rings, **more):
    return {
        "type": "Feature",
        "id": "0b3c",
        "geometry": {"type": "Polygon", "coordinates": [[*ring, ring[0]] for ring in rings]},
        "properties": {
            "objectType": "annotation",
            "classification": {"name": label, "color": [200, 0, 0]},
            **more,
        },
    }


def qupath(root: Path, features=None) -> Path:
    s.photo(root / "a.png")
    if features is None:
        features = [qupath_feature(s.ROAD, [ROAD]), qupath_feature(s.CAR, [CAR])]
        features.append({"type": "Feature", "geometry": {"type": "Point", "coordinates": [1, 1]}})
    return s.save(root / "a.geojson", {"type": "FeatureCollection", "features": features})


def runs_of(mask, order="F"):
    """Runs as Kaggle's pages describe them, counted pixel by pixel."""
    found, flat = [], np.ravel(mask, order=order).tolist()
    for spot, value in enumerate(flat, start=1):
        if value and (spot == 1 or not flat[spot - 2]):
            found.append([spot, 0])
        if value:
            found[-1][1] += 1
    return " ".join(f"{start} {length}" for start, length in found)


def kaggle(root: Path, rows=None) -> Path:
    s.photo(root / "train_images" / "a.png")
    if rows is None:
        road = s.SCENE > 0
        road[1] = False
        rows = [
            {"ImageId": "a.png", "ClassId": s.CAR, "EncodedPixels": runs_of(s.SCENE == 2)},
            {"ImageId": "a.png", "ClassId": s.ROAD, "EncodedPixels": runs_of(road)},
        ]
    return table(root / "train.csv", rows)


def binary(root: Path) -> Path:
    """One folder for each class."""
    s.photo(root / "images" / "a.png")
    road = s.SCENE > 0
    road[1] = False
    for name, mask in ((s.CAR, s.SCENE == 2), (s.ROAD, road)):
        (root / "masks" / name).mkdir(parents=True)
        write_mask(root / "masks" / name / "a.png", mask.astype(np.uint8) * 255)
    return root


def pixel_project(root: Path, kind="save") -> Path:
    """A pixel project of SuperAnnotate; its parts have colors of their own."""
    superannotate_classes(root)
    s.photo(root / "a.jpg")
    colors = {
        "save": [[0, 0, 0], [0, 0, 15], [0, 0, 30]],
        "fuse": [[0, 0, 0], [0x80, 0x40, 0x80], [0, 0, 0x8E]],
    }
    write_image(root / f"a.jpg___{kind}.png", np.array(colors[kind], np.uint8)[s.SCENE])
    instances = [
        {"classId": 7, "className": s.ROAD, "parts": [{"color": "#00000f"}]},
        {"classId": 8, "className": s.CAR, "parts": [{"color": "#00001e"}]},
    ]
    s.save(root / "a.jpg___pixel.json", {"metadata": {"name": "a.jpg"}, "instances": instances})
    return root


EXPORTS = {
    "labelbox": labelbox,
    "superannotate": superannotate,
    "via": via,
    "via ": via_csv,
    "isat": isat,
    "geojson": qupath,
    "kaggle": kaggle,
    "binary": binary,
}
"""Tool → its export of the scene; a blank behind the name marks a second form."""
