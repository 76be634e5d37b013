"""Writers and model loaders: files and folders under the names that Clara's documents give them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import SimpleITK as sitk

from tests.tables import read_table
from voxflow.components import Component, build_transform, create
from voxflow.components.transforms.grids import affine_entries
from voxflow.errors import ConfigError, DataError
from voxflow.geometry import Geometry

if TYPE_CHECKING:
    from pathlib import Path

GRID = Geometry.from_parts((4, 5, 6), (0.7, 0.9, 3.0), (1, 2, 3), (-1, 0, 0, 0, 1, 0, 0, 0, -1))


def writer(name: str, **args: object) -> Any:
    return create("writer", Component(name=name, args=args))


@pytest.fixture
def sample() -> dict[str, Any]:
    mask = np.random.default_rng(0).integers(0, 2, (1, 4, 5, 6)).astype(np.uint8)
    return {"case": "p1", "TC": mask, **affine_entries(["TC"], GRID)}


@pytest.mark.parametrize("name", ["WriteNifti", "tlt2:WriteNiftyResults"])
def test_a_mask_is_written_below_its_case_where_it_lies(name: str, sample: dict[str, Any], tmp_path: Path) -> None:
    key = {"field" if name == "WriteNifti" else "applied_key": "TC"}
    files = writer(name, **key, dtype="uint8").write([sample], tmp_path)
    assert files == [tmp_path / "p1" / "p1_TC.nii.gz"]
    image = sitk.ReadImage(str(files[0]))
    assert image.GetPixelID() == sitk.sitkUInt8
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image).transpose(2, 1, 0), sample["TC"][0])
    assert image.GetOrigin() == pytest.approx(GRID.origin)
    np.testing.assert_allclose(image.GetDirection(), GRID.direction.ravel(), atol=1e-6)


def test_a_writer_has_its_own_folder_where_it_names_one(sample: dict[str, Any], tmp_path: Path) -> None:
    files = writer("WriteNifti", field="TC", write_path=str(tmp_path / "eval")).write([sample], tmp_path / "out")
    assert files[0] == tmp_path / "eval" / "p1" / "p1_TC.nii.gz"
    again = {"applied_key": "TC", "write_path": str(tmp_path / "chain"), "dtype": "int16"}
    build_transform(Component(name="tlt2:WriteNiftyResults", args=again))(sample)
    assert sitk.ReadImage(str(tmp_path / "chain" / "p1" / "p1_TC.nii.gz")).GetPixelID() == sitk.sitkInt16


def test_values_that_do_not_fit_the_type_are_refused(sample: dict[str, Any], tmp_path: Path) -> None:
    large = sample | {"TC": sample["TC"].astype(np.int32) * 300}
    with pytest.raises(DataError, match="values from 0 to 300 don't fit uint8"):
        writer("WriteNifti", field="TC", dtype="uint8").write([large], tmp_path)
    with pytest.raises(DataError, match="'TC' has 3 channels, a file holds one"):
        writer("WriteNifti", field="TC").write([sample | {"TC": np.zeros((3, 4, 5, 6))}], tmp_path)
    with pytest.raises(ConfigError, match="dtype: Input should be 'uint8'"):
        writer("WriteNifti", field="TC", dtype="complex64")


def test_findings_become_one_table_and_a_link_to_it(tmp_path: Path) -> None:
    samples = [{"case": f"p{n}", "outputs": np.array([0.25 * n, 0.5])} for n in range(3)]
    table = writer("tlt2:WriteClassificationResults", applied_key="outputs")
    for _ in range(2):
        assert table.write(samples, tmp_path, ["nodule", "mass"]) == [tmp_path / "preds_outputs.csv"]
    rows = read_table(tmp_path / "preds.csv")
    assert rows[2] == {"case": "p2", "nodule": "0.5", "mass": "0.5"}
    assert len(rows) == 3


def test_what_a_chain_makes_is_saved_to_look_at(sample: dict[str, Any], tmp_path: Path) -> None:
    image = np.random.default_rng(0).normal(size=(2, 4, 5, 6)).astype(np.float32)
    save = build_transform(
        Component(name="SaveAsNifti", args={"fields": ["image", "TC"], "out_dir": str(tmp_path), "interrupt": True})
    )
    file_names = sample | {"image": image, **affine_entries(["image"], GRID)}
    assert save(file_names) is file_names
    assert save(file_names) is file_names
    files = sorted(path.name.split("_", 2)[2] for path in tmp_path.iterdir())
    assert files == sorted(["TC.nii.gz", "image_0.nii.gz", "image_1.nii.gz"] * 2)
    written = sitk.ReadImage(str(next(iter(sorted(tmp_path.glob("*image_1*"))))))
    np.testing.assert_allclose(sitk.GetArrayFromImage(written).transpose(2, 1, 0), image[1])


def loader(name: str, **args: object) -> Any:
    return create("model_loader", Component(name=name, args=args))


def test_a_checkpoint_loader_names_the_trainings_file_and_is_a_handler_too() -> None:
    load = loader("CheckpointLoader", checkpoint_dir="models")
    assert load.path.as_posix() == "models/model.ckpt"
    assert isinstance(create("handler", Component(name="CheckpointLoader", args={"checkpoint_dir": "x"})), type(load))
    create("handler", Component(name="StatsHandler"))


def test_a_frozen_graph_loader_names_the_exported_file_as_the_configuration_has_it() -> None:
    load = loader("FrozenGraphModelLoader", model_file_path="models/model.trt.pb", infer_in_training_mode=False)
    assert load.path.as_posix() == "models/model.trt.pb"  # tests/mmar/test_artefacts.py: which file this stands for
