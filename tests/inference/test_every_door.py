"""One model gives one mask, whichever way an image comes to it, and every way refuses the same images."""

from __future__ import annotations

import gzip
import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np
import pytest
import yaml

from tasks import infer as infer_stage
from tasks.common.stage import main as run_stage
from tests.mmar.conftest import QUICK
from tests.mmar.workspaces import component, segmentation_mmar
from voxflow.cli.apps import evaluate_main, export_main, train_main
from voxflow.cli.main import main as voxflow
from voxflow.cli.tlt import infer_main as tlt_infer
from voxflow.engines import open_engine
from voxflow.errors import DataError
from voxflow.executor import Threads
from voxflow.files import write_json
from voxflow.geometry import Geometry
from voxflow.inference import InferenceCase, InferOptions, ModelFolders, infer_on_executor
from voxflow.prediction import PredictOptions, predict_volume
from voxflow.serving.limits import RefusedError, ServeLimits
from voxflow.serving.work import answer_request
from voxflow.volumes import Volume, read_volume, write_volume

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from voxflow.prediction import Plan

    # What a way to a mask makes of images: the mask's file, or why there is none.
    Door = Callable[["House", tuple[Path, ...]], Path | str]

# No side but one is a multiple of the stride, and all are longer than the window that the network was trained on.
GRID = Geometry.from_parts((41, 33, 30), (1, 1, 2), (5, -7, 30))
INFERERS = {
    "windows": component("TFScanWindowInferer", roi_size=[16, 16, 16], batch_size=3),
    "whole": component("TFSimpleInferer"),
}


class House:
    """A trained model as a workspace of the pipeline and as an MMAR by hand, with one way to cut an image.

    Attributes:
        root: the folder of all, where commands are given.
        plan: "windows" or "whole".
    """

    def __init__(self, root: Path, plan: Plan) -> None:
        self.root, self.plan = root, plan
        self.mmar, self.exported = root / "mmars/box", root / "mmars/box/models/export"

    def options(self) -> InferOptions:
        return InferOptions(plan=self.plan, overlays=0)

    def list_images(self, images: tuple[Path, ...], folder: str = "") -> dict[str, Any]:
        paths = [folder + image.name for image in images]
        return {"image": paths[0] if len(paths) == 1 else paths, "case": "case", "patient": "case"}


def by_the_stage(house: House, images: tuple[Path, ...]) -> Path | str:
    volumes = house.root / "data/volumes/box"
    (volumes / "images").mkdir(parents=True)
    for image in images:
        shutil.copy(image, volumes / "images")
    header, names = "case,patient,image,label,series_uid,source\n", [f"images/{image.name}" for image in images]
    (volumes / "cases.csv").write_text(f"{header}case,case,{';'.join(names)},,,in\n")
    datalist = {"inference": [house.list_images(images, "images/")]}
    write_json(house.root / "data/datalists/box/dataset_0.json", datalist)
    infer = {"plan": house.plan, "overlays": 0}
    block = {"task": "segmentation", "source": "data/raw/box", "export": {}, "evaluate": {}, "infer": infer}
    Path("params.yaml").write_text(yaml.safe_dump({"workspaces": {"box": block}}))
    write_json(house.mmar / "models/train/run.json", {"run_id": "", "experiment": "box"})
    sys.argv = ["tasks.infer", "box"]
    run_stage("infer", infer_stage.run)
    return outcome(house.mmar / "eval/infer", "case/case.nii.gz")


def by_the_command(house: House, images: tuple[Path, ...]) -> Path | str:
    write_json(house.root / "list.json", {"inference": [house.list_images(images)]})
    flags = ["--images", "list.json", "--out", "masks", "--set", f"plan={house.plan}", "overlays=0"]
    voxflow(["infer", str(house.mmar), *flags])
    return outcome(house.root / "masks", "case/case.nii.gz")


def by_a_worker(house: House, images: tuple[Path, ...]) -> Path | str:
    out = house.root / "elsewhere"
    out.mkdir()
    infer_on_executor(
        Threads(1), ModelFolders((house.exported,)), [InferenceCase("case", images)], out, house.options()
    )
    return outcome(out, "case/case.nii.gz")


def by_the_service(house: House, images: tuple[Path, ...]) -> Path | str:
    (image,) = images
    folder = house.root / "request"
    folder.mkdir()
    shutil.copy(image, folder / "upload")
    try:
        return answer_request(open_engine(house.exported), folder, house.options(), ServeLimits(), "nifti").path
    except RefusedError as error:
        return str(error)


def by_the_mmar(house: House, images: tuple[Path, ...]) -> Path | str:
    write_json(house.mmar / "config/dataset_0.json", {"mine": [house.list_images(images)]})
    voxflow(["infer", str(house.mmar), "--set", "DATA_LIST_KEY=mine", f"DATA_ROOT={house.root}"])
    return outcome(house.mmar / "eval", "case/case_model.nii.gz")


def by_nvmidl(house: House, images: tuple[Path, ...]) -> Path | str:
    write_json(house.mmar / "config/dataset_0.json", {"mine": [house.list_images(images)]})
    evaluate_main(
        ["-m", str(house.mmar), "--set", "DATA_LIST_KEY=mine", f"DATA_ROOT={house.root}", "do_validation=false"]
    )
    return outcome(house.mmar / "eval", "case/case_model.nii.gz")


def by_tlt(house: House, images: tuple[Path, ...]) -> Path | str:
    # TLT knows no transform that maps a range; all values of the images lie in it, so that this does the same.
    scale = {"name": "transforms.CenterData", "applied_keys": "image", "subtrahend": 0.0, "divisor": 200.0}
    content = {
        "input_nodes": {"image": "inputs"},
        "output_nodes": {"model": "outputs"},
        "batch_size": 1,
        "pre_transforms": [{"name": "transforms.LoadNifty", "fields": ["image"]}, scale],
        "post_transforms": [{"name": "transforms.ArgmaxAcrossChannels", "fields": "outputs"}],
        "writers": [{"name": "writers.WriteNiftyResults", "applied_key": "outputs", "dtype": "uint8"}],
    }
    write_json(house.root / "tlt.json", content)
    write_json(house.root / "list.json", {"validation": [house.list_images(images)]})
    setup = {"windows": "scanning_window", "whole": "standard"}[house.plan]
    flags = ["--model_save_path", f"{house.mmar}/models/model.trt.pb", "--config", f"{house.root}/tlt.json"]
    flags += ["--file_root", f"{house.root}", "--data_file", f"{house.root}/list.json", "--output_path", "tlt"]
    tlt_infer([*flags, "--setup", setup])
    return outcome(house.root / "tlt", "case/case_outputs.nii.gz")


def by_a_bundle(house: House, images: tuple[Path, ...]) -> Path | str:
    pytest.importorskip("ignite", reason="MONAI's engines need pytorch-ignite: pip install voxflow[bundle]")
    from voxflow.bundle import BundleOptions, infer_bundle
    from voxflow.migrate import migrate_to_bundle

    key = {"DATA_LIST_KEY": "validation"}
    bundle = migrate_to_bundle(house.mmar, house.root / "bundle", overrides=key).folder
    paths = [str(image) for image in images]
    (house.root / "masks").mkdir()
    try:
        data = {"dataset#data": [{"image": paths[0] if len(paths) == 1 else paths}]}
        infer_bundle(bundle, bundle / "models", house.root / "masks", BundleOptions(), data=data)
    except DataError as error:
        return str(error)
    return next((house.root / "masks").rglob("*.nii.gz"))


DOORS: list[Door] = [by_the_stage, by_the_command, by_a_worker, by_the_service, by_the_mmar, by_nvmidl, by_tlt]


def outcome(folder: Path, mask: str) -> Path | str:
    """The mask, or the reason that failures.json gives for the one case."""
    failures = json.loads((folder / "failures.json").read_text())
    assert (folder / mask).is_file() is not bool(failures)
    return str(failures[0]["reason"]) if failures else folder / mask


@pytest.fixture(scope="module")
def trained_mmar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MMAR that has learnt to find a bright box, exported."""
    root = segmentation_mmar(tmp_path_factory.mktemp("doors") / "mmar")
    assert train_main(["-m", str(root), "--set", *QUICK]) == 0
    assert export_main(["--model_file_path", str(root / "models")]) == 0
    return root


@pytest.fixture(params=INFERERS)
def house(trained_mmar: Path, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [])
    opened_house = House(tmp_path, request.param)
    shutil.copytree(trained_mmar, opened_house.mmar, ignore=shutil.ignore_patterns("data"))
    opened_house.exported.mkdir()
    for suffix in (".xml", ".bin"):
        shutil.copy(trained_mmar / f"models/model.trt{suffix}", opened_house.exported / f"model{suffix}")
    config = json.loads((opened_house.mmar / "config/config_validation.json").read_text())
    write_json(opened_house.mmar / "config/config_validation.json", config | {"inferer": INFERERS[request.param]})
    return opened_house


def write_image(path: Path, seed: int = 0, **voxels: float) -> NDArray[np.float32]:
    array = np.random.default_rng(seed).normal(50, 15, GRID.size).astype(np.float32)
    array[8:25, 6:20, 9:21] += 100
    np.clip(array, 1, 199, out=array)
    array[0, 0, 0] = voxels.get("corner", array[0, 0, 0])
    write_volume(path, Volume(array, GRID))
    return array


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.__name__)
def test_every_door_gives_the_mask_that_the_model_gives(house: House, door: Door) -> None:
    array = write_image(house.root / "image.nii.gz")
    expected = predict_volume(
        open_engine(house.exported), Volume(array, GRID), PredictOptions(plan=house.plan)
    ).mask.array
    assert 0 < np.count_nonzero(expected) < expected.size / 2
    mask = door(house, (house.root / "image.nii.gz",))
    assert isinstance(mask, Path), mask
    assert read_volume(mask).geometry.is_close(GRID)
    np.testing.assert_array_equal(read_volume(mask).array, expected)


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.__name__)
@pytest.mark.parametrize("house", ["windows"], indirect=True)
def test_every_door_states_both_places_that_the_image_states(house: House, door: Door) -> None:
    image = nibabel.Nifti1Image(write_image(house.root / "image.nii.gz"), None)
    turn = np.array([[0.0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1]])
    image.header.set_qform(GRID.affine_ras, 1)
    image.header.set_sform(turn, 4)
    nibabel.save(image, house.root / "image.nii.gz")
    mask = door(house, (house.root / "image.nii.gz",))
    assert isinstance(mask, Path), mask
    header = nibabel.Nifti1Image.from_filename(mask).header
    assert (int(header["qform_code"]), int(header["sform_code"])) == (1, 4)
    np.testing.assert_array_equal(header.get_sform(), turn)
    np.testing.assert_array_equal(header.get_qform(), image.header.get_qform())


def write_nan(folder: Path) -> None:
    write_image(folder / "image.nii.gz", corner=np.nan)


def write_infinity(folder: Path) -> None:
    write_image(folder / "image.nii.gz", corner=np.inf)


def write_half(folder: Path) -> None:
    write_image(folder / "image.nii.gz")
    whole = (folder / "image.nii.gz").read_bytes()
    (folder / "image.nii.gz").write_bytes(whole[: len(whole) // 2])


def write_wrong_checksum(folder: Path) -> None:
    write_image(folder / "image.nii.gz")
    data = bytearray((folder / "image.nii.gz").read_bytes())
    data[-8] ^= 255
    (folder / "image.nii.gz").write_bytes(data)


def write_complex(folder: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(np.ones(GRID.size, np.complex64), GRID.affine_ras), folder / "image.nii.gz")


def write_lie(folder: Path) -> None:
    write_image(folder / "image.nii.gz")
    header = bytearray(gzip.decompress((folder / "image.nii.gz").read_bytes()))
    header[72:74] = (8).to_bytes(2, "little")
    (folder / "image.nii.gz").write_bytes(gzip.compress(header))


FAULTS: dict[Callable[[Path], None], str] = {
    write_nan: "the image holds NaN or infinite values",
    write_infinity: "the image holds NaN or infinite values",
    write_half: "unreadable image: damaged, or it ends early",
    write_wrong_checksum: "unreadable image: damaged, or it ends early: CRC check failed",
    write_complex: "unreadable image: a voxel holds a complex number",
    write_lie: "unreadable image: its header claims 8 bits a voxel, its type 16 has another size",
}


@pytest.mark.filterwarnings("ignore")  # what MONAI and ignite warn of in their own modules
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
@pytest.mark.parametrize("door", [*DOORS, by_a_bundle], ids=lambda door: door.__name__)
@pytest.mark.parametrize("house", ["windows"], indirect=True)
def test_every_door_refuses_an_image_for_the_same_reason(
    house: House, door: Door, fault: Callable[[Path], None]
) -> None:
    fault(house.root)
    reason = door(house, (house.root / "image.nii.gz",))
    assert isinstance(reason, str)
    assert f"image.nii.gz: {FAULTS[fault]}" in reason


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "door", [door for door in (*DOORS, by_a_bundle) if door is not by_the_service], ids=lambda door: door.__name__
)
@pytest.mark.parametrize("house", ["windows"], indirect=True)
def test_every_door_refuses_a_second_channel_on_another_grid(house: House, door: Door) -> None:
    images = (house.root / "one.nii.gz", house.root / "two.nii.gz")
    write_image(images[0])
    moved = Geometry(GRID.size, GRID.affine + np.pad([[0.06]], [(0, 3), (3, 0)]))
    write_volume(images[1], Volume(write_image(images[1]), moved))
    reason = door(house, images)
    assert isinstance(reason, str)
    assert "two.nii.gz: its grid is not the image's, they lie on different grids" in reason


@pytest.mark.parametrize("door", [door for door in DOORS if door is not by_the_service], ids=lambda door: door.__name__)
@pytest.mark.parametrize("house", ["windows"], indirect=True)
def test_every_door_refuses_a_wrong_number_of_channels(house: House, door: Door) -> None:
    """A request to the service is one file, which is one channel."""
    images = (house.root / "one.nii.gz", house.root / "two.nii.gz")
    for seed, image in enumerate(images):
        write_image(image, seed)
    assert door(house, images) == "the network takes 1 channel(s), the image has 2"


@pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType")
def test_the_registered_model_gives_the_logits_that_its_file_gives(
    house: House, trained_mmar: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow's model takes prepared windows; in the place of an engine it gives the same mask."""
    import mlflow

    from voxflow.tracking import begin_run

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{house.root}/mlflow.db")
    with begin_run("box") as tracker:
        model = mlflow.pyfunc.load_model(tracker.log_model(trained_mmar / "models/model.fzn.onnx"))
    engine = open_engine(trained_mmar / "models/model.fzn.onnx")
    array = write_image(house.root / "image.nii.gz")
    options = PredictOptions(plan=house.plan)
    expected = predict_volume(engine, Volume(array, GRID), options).mask.array
    monkeypatch.setattr(engine, "run", lambda batch: np.asarray(model.predict({"image": batch})["logits"]))
    np.testing.assert_array_equal(predict_volume(engine, Volume(array, GRID), options).mask.array, expected)


@pytest.mark.filterwarnings("ignore")  # what MONAI and ignite warn of in their own modules
@pytest.mark.parametrize("house", ["windows"], indirect=True)
def test_a_bundle_made_of_the_mmar_gives_its_mask(house: House) -> None:
    array = write_image(house.root / "image.nii.gz")
    mask = by_a_bundle(house, (house.root / "image.nii.gz",))
    assert isinstance(mask, Path), mask
    engine = open_engine(house.mmar / "models/model.pt")
    expected = predict_volume(engine, Volume(array, GRID), PredictOptions(plan=house.plan)).mask.array
    np.testing.assert_array_equal(read_volume(mask).array, expected)
