"""The numbers Zhou et al. published (CVPR 2016, arXiv 1512.04150), table by table, in the paper's
own order.

Errors and accuracies are percentages. Tables 1 and 2 are keyed by this project's names, (model) and
(model, method), so that a result finds its row; `row_title` turns a key into the paper's wording.
"""

VAL_IMAGES = 50_000  # of ILSVRC val
LOCALIZED_IMAGES = (
    50_000,
    48_238,
)  # of them for localization: all, or without the devkit's 1,762 blacklisted ones

# Table 1: the network, its top-1 and top-5 classification error, ILSVRC val.
TABLE1 = {
    "vgg_gap": ("VGGnet-GAP", 33.4, 12.2),
    "googlenet_gap": ("GoogLeNet-GAP", 35.0, 13.2),
    "alexnet_star_gap": ("AlexNet*-GAP", 44.9, 20.9),
    "alexnet_gap": ("AlexNet-GAP", 51.1, 26.3),
    "googlenet": ("GoogLeNet", 31.9, 11.3),
    "vgg": ("VGGnet", 31.2, 11.4),
    "alexnet": ("AlexNet", 42.6, 19.5),
    "nin": ("NIN", 41.9, 19.6),
    "googlenet_gmp": ("GoogLeNet-GMP", 35.6, 13.9),
}

# Table 2: top-1 and top-5 localization error, ILSVRC val.
TABLE2 = {
    ("googlenet_gap", "cam"): (56.40, 43.00),
    ("vgg_gap", "cam"): (57.20, 45.14),
    ("googlenet", "cam"): (60.09, 49.34),
    ("alexnet_star_gap", "cam"): (63.75, 49.53),
    ("alexnet_gap", "cam"): (67.19, 52.16),
    ("nin", "cam"): (65.47, 54.19),
    ("googlenet", "backprop"): (61.31, 50.55),
    ("vgg", "backprop"): (61.12, 51.46),
    ("alexnet", "backprop"): (65.17, 52.64),
    ("googlenet_gmp", "cam"): (57.78, 45.26),
}

# Table 3: (title, supervision) -> top-5 localization error, ILSVRC test, whose labels are not
# public. "Backprop" is Simonyan et al.'s own number (arXiv 1312.6034); the last three were trained
# with boxes.
TABLE3 = {
    ("GoogLeNet-GAP (heuristics)", "weakly"): 37.1,
    ("GoogLeNet-GAP", "weakly"): 42.9,
    ("Backprop", "weakly"): 46.4,
    ("GoogLeNet", "full"): 26.7,
    ("OverFeat", "full"): 29.9,
    ("AlexNet", "full"): 34.2,
}

CAFFE = {  # Caffe's own networks, and the network of the paper whose rows are theirs
    "vgg16_cam_caffe": "vgg_gap",
    "googlenet_cam_caffe": "googlenet_gap",
    "googlenet_gap_caffe": "googlenet_gap",
    "alexnetplus_cam_caffe": "alexnet_star_gap",
    "caffenet_gap": "alexnet_gap",
    "googlenet_caffe": "googlenet",
    "vgg16_caffe": "vgg",
    "caffenet": "alexnet",
    "nin_caffe": "nin",
    "googlenet_gmp_caffe": "googlenet_gmp",
}


def row_title(model: str, method: str = "cam") -> str:
    """The paper's wording for a model and method; a network that is not in the paper keeps its own
    name.
    """
    network, *_ = TABLE1.get(CAFFE.get(model, model), (model,))
    return network if method == "cam" else f"{method.capitalize()} on {network}"


def published(model: str, method: str = "cam") -> dict[str, float]:
    """metric -> its number in Tables 1 and 2, for those of a result file that the paper has.

    They imply P(box right | class right), top-1, the fairest target when the backbone is not the
    authors' own: since a localization is right only if the class is, it is (100 − loc error) / (100
    − cls error).
    """
    found = {}
    if model in TABLE1:
        _, found["cls_top1_error"], found["cls_top5_error"] = TABLE1[model]
    if (model, method) in TABLE2:
        found["loc_top1_error"], found["loc_top5_error"] = TABLE2[model, method]
        found["loc_given_cls"] = (
            100 * (100 - found["loc_top1_error"]) / (100 - found["cls_top1_error"])
        )
    return found
