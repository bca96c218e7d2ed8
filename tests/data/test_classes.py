"""What a person types for a class, and the class that is meant."""

import pytest

from cam_repro import UserError
from cam_repro.data import imagenet_classes
from cam_repro.data.classes import class_number, labels_by_name

WNIDS, WORDS = imagenet_classes()


def meant(asked: str) -> str:
    return WNIDS[class_number(asked, WNIDS, WORDS)]


def refusal(asked: str) -> str:
    with pytest.raises(UserError) as refused:
        class_number(asked, WNIDS, WORDS)
    return str(refused.value)


@pytest.mark.parametrize("asked", ["n02123045", "281", "tabby", "Tabby Cat", "tabby, tabby cat"])
def test_a_class_goes_by_its_wnid_its_number_and_each_of_its_names(asked: str) -> None:
    assert meant(asked) == "n02123045"


def test_a_wnid_comes_before_a_number_and_a_number_before_a_name() -> None:
    """As in a folder of classes that are numbers themselves."""
    folders = ["1", "10", "2"]
    labels = [class_number(asked, folders, folders) for asked in ("1", "10", "2", "0")]
    assert labels == [0, 1, 2, 0]


def test_a_name_of_two_classes_is_answered_with_both() -> None:
    both = "give the wnid of one: n02012849 (crane), n03126707 (crane)"
    assert f"class=crane is the name of 2 classes; {both}" in refusal("crane")
    assert "n03710637 (maillot), n03710721 (maillot, tank suit)" in refusal("maillot")
    assert meant("n03126707") == "n03126707" and meant("tank suit") == "n03710721"


def test_19_names_of_ilsvrc_are_double() -> None:
    double = [name for name, labels in labels_by_name(WORDS).items() if len(labels) > 1]
    assert len(double) == 19
    assert all("is the name of 2 classes" in refusal(name) for name in double)


def test_a_word_is_answered_with_the_classes_that_contain_it() -> None:
    assert "classes that contain the word (14): Maltese dog, " in refusal("dog")
    assert "German shepherd dog" in refusal("dog") and " and 9 more; give a name" in refusal("Dog")
    assert "the word (1): African hunting dog; give" in refusal("hunting dog")
    assert "catamaran" not in refusal("cat") and "(7): tabby cat, tiger cat" in refusal("cat")


def test_a_misspelt_name_is_answered_with_the_nearest() -> None:
    advice = "did you mean zebra? give a name, a wnid or 0…999"
    assert f"class=zebr is no class of this network; {advice}" in refusal("zebr")
    assert "class=1000 is no class" in refusal("1000")
