"""Models of several networks in every engine: a file for each network, and one mask, which is torch's."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from unittest.mock import patch

import httpx
import numpy as np
import pytest

from tests.adopt.folders import write_image
from tests.adopt.test_cascade import write_cascade
from tests.adopt.test_joined import write_parts
from tests.serving.servers import run_service
from voxflow.adopt import read_joined, read_nnunet, write_adopted
from voxflow.cli.main import main
from voxflow.engines import Engine, NetworksEngine, get_engine_kind, list_model_files, open_engine
from voxflow.engines.openvino import OpenVinoEngine
from voxflow.errors import DataError, ParityError, VoxflowError
from voxflow.export import ExportOptions, export_model
from voxflow.export.images import make_noise_volumes, read_middles
from voxflow.files import write_json
from voxflow.inference import InferenceCase, digest_exported_models
from voxflow.prediction import PredictOptions, open_ensemble, predict_volume
from voxflow.volumes import Volume, read_volume

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

KINDS = ("joined", "cascade")
NETWORKS = {"joined": 3, "cascade": 2}
FORMATS = ("onnx", "openvino")
# Mirrored windows are the same ones, eight times.
PLAIN = PredictOptions(flips=())


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A joined model and a cascade, each as KIND/models/train/model.pt, and exported as the stage export does."""
    root = tmp_path_factory.mktemp("networks")
    case = InferenceCase("case", (write_image(root / "case.nii.gz", size=(20, 22, 12), border=4),))
    for kind in KINDS:
        models = root / kind / "models"
        (models / "export").mkdir(parents=True)
        (models / "train").mkdir()
        adopted = read_joined(write_parts(root / "parts")) if kind == "joined" else read_nnunet(write_cascade(root))
        write_adopted(adopted, models / "train/model.pt")
        report = export_model(models / "train/model.pt", models / "export", ExportOptions(engines=FORMATS), [case])
        report.require_published()
        write_json(models / "parity.json", report.metrics())
    return root


@pytest.fixture(scope="module")
def image(root: Path) -> Volume:
    return read_volume(root / "case.nii.gz")


@pytest.fixture(scope="module")
def masks(root: Path, image: Volume) -> dict[str, NDArray[np.uint8]]:
    """The masks of torch."""
    masks = {}
    for kind in KINDS:
        engine = open_engine(root / kind / "models/train/model.pt", "torch")
        masks[kind] = predict_volume(engine, image, PLAIN).mask.array
        assert len(np.unique(masks[kind])) > 1
    return masks


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_an_engine_gives_the_mask_of_torch(
    kind: str, engine: str, root: Path, image: Volume, masks: dict[str, NDArray[np.uint8]]
) -> None:
    opened = open_engine(root / kind / "models/export", engine)
    assert (opened.name, len(opened.parts or (opened, *opened.previous))) == (engine, NETWORKS[kind])
    for _ in range(2):  # memory that was given back between the networks is there again
        np.testing.assert_array_equal(predict_volume(opened, image, PLAIN).mask.array, masks[kind])
    ensemble = open_ensemble([root / kind / "models/export"], engine)
    np.testing.assert_array_equal(predict_volume(ensemble, image, PLAIN).mask.array, masks[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_the_record_of_the_export_is_of_the_whole_mask(kind: str, root: Path) -> None:
    parity = json.loads((root / kind / "models/parity.json").read_text())
    assert parity["cases"] == 1
    for engine in ("onnxruntime", "openvino"):
        assert 0 < parity[engine]["max_logit_difference"] < 1e-2
        assert (parity[engine]["min_dice"], parity[engine]["published"]) == (1.0, 1)
    files = {path.name for path in (root / kind / "models/export").iterdir()}
    count = NETWORKS[kind]
    names = ["model", *(f"model-{number}of{count}" for number in range(2, count + 1))]
    assert files == {"model.pt", *(name + ending for name in names for ending in (".onnx", ".xml", ".bin"))}


def test_all_files_are_digested(root: Path) -> None:
    export = root / "joined/models/export"
    names = [path.name for path in list_model_files(export, "openvino")]
    assert names[:2] == ["model.xml", "model.bin"]
    assert set(names[2:]) == {"model-2of3.xml", "model-2of3.bin", "model-3of3.xml", "model-3of3.bin"}
    assert set(digest_exported_models([export])[0]) == {path.name for path in export.iterdir()} - {"model.pt"}


def test_memory_is_given_back_before_the_next_part_runs(root: Path, image: Volume) -> None:
    engine = open_engine(root / "joined/models/export", "openvino")
    held: list[int] = []

    def infer(self: OpenVinoEngine, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        answer = run(self, batch)
        running = [part._network if isinstance(part, NetworksEngine) else part for part in engine.parts]
        held.append(sum(bool(part._requests) for part in running if isinstance(part, OpenVinoEngine)))
        return answer

    run = OpenVinoEngine.run
    with patch.object(OpenVinoEngine, "run", infer):
        predict_volume(engine, image, PLAIN)
    assert set(held) == {1}


@pytest.mark.parametrize(("precision", "bound"), [("int8", 0.0), ("bf16", 1.0)])
def test_less_precision_is_published_for_all_networks_or_for_none(
    precision: str, bound: float, root: Path, tmp_path: Path
) -> None:
    case = InferenceCase("case", (root / "case.nii.gz",))
    options = ExportOptions.model_validate(
        {"engines": ["openvino"], "openvino_precision": precision, "reduced_min_dice": bound}
    )
    with patch("voxflow.export.parity.LEAST_VOXELS", 10):
        report = export_model(root / "cascade/models/train/model.pt", tmp_path, options, [case])
    assert (f"openvino-{precision}" in report.published_engines) == (bound == 0)
    mark = "FakeQuantize" if precision == "int8" else 'precision value="bf16"'
    for name in ("model.xml", "model-2of2.xml"):
        assert (mark in (tmp_path / name).read_text()) == (bound == 0)
    assert not list(tmp_path.glob("*.onnx"))


def test_a_part_that_answers_otherwise_refuses_the_engine(root: Path, tmp_path: Path) -> None:
    case = InferenceCase("case", (root / "case.nii.gz",))
    run = OpenVinoEngine.run

    def answer_backwards(self: OpenVinoEngine, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        return run(self, batch)[:, ::-1] if not self.spec.parts else run(self, batch)

    with patch.object(OpenVinoEngine, "run", answer_backwards):
        report = export_model(root / "joined/models/train/model.pt", tmp_path, ExportOptions(engines=FORMATS), [case])
    with pytest.raises(ParityError, match="not published: openvino: a probability differs by"):
        report.require_published()
    assert report.published_engines == ["onnxruntime"]
    assert {path.suffix for path in tmp_path.iterdir()} == {".pt", ".onnx"}


def test_networks_that_are_missing_or_of_another_model_are_refused(root: Path, tmp_path: Path) -> None:
    kind = get_engine_kind("onnxruntime")
    for name in KINDS:
        for source, target in kind.pair_files(root / name / "models/export/model.onnx", tmp_path / f"{name}.onnx"):
            target.write_bytes(source.read_bytes())
    assert len(list(tmp_path.iterdir())) == 5
    assert len(open_engine(tmp_path / "joined.onnx").parts) == 3
    with pytest.raises(VoxflowError, match="a joined model has 3 networks, which are run one by one"):
        open_engine(tmp_path / "joined.onnx").run(np.zeros((1, 1, 16, 24, 24), dtype=np.float32))
    (tmp_path / "joined-2of3.onnx").unlink()
    with pytest.raises(DataError, match=r"joined.onnx: beside it lie joined-3of3.onnx: not all networks of one model"):
        open_engine(tmp_path / "joined.onnx")
    (tmp_path / "joined-3of3.onnx").rename(tmp_path / "joined-2of2.onnx")
    (tmp_path / "cascade-2of2.onnx").unlink()
    for name in KINDS:
        with pytest.raises(DataError, match=rf"{name}.onnx: some of the model's . networks are missing beside it"):
            open_engine(tmp_path / f"{name}.onnx")


def test_files_of_an_earlier_model_of_more_networks_are_removed(root: Path, tmp_path: Path) -> None:
    model = tmp_path / "models/model.pt"
    model.parent.mkdir()
    for kind, count in (("joined", 3), ("cascade", 2)):
        model.write_bytes((root / kind / "models/train/model.pt").read_bytes())
        arguments = ["export", str(model), "--set", 'engines=["onnx"]']
        assert main(arguments) == 0
        assert len(list(model.parent.glob("*.onnx"))) == count
    assert (model.parent / "model-2of2.fzn.onnx").is_file()
    engine = open_engine(model.parent / "model.fzn.onnx")
    assert len(engine.previous) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_infer_the_service_and_a_package_give_the_mask(
    kind: str, root: Path, masks: dict[str, NDArray[np.uint8]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    package, image = tmp_path / "package", str(root / "case.nii.gz")
    assert main(["package", str(root / kind), "--out", str(package)]) == 0
    arguments = ["infer", str(package / "models" / kind), "--images", image, "--out", str(tmp_path / "out")]
    engine: Engine = open_engine(package / "models" / kind)
    assert engine.name == "openvino"
    assert main(arguments) == 0
    mirrored = read_volume(next((tmp_path / "out").rglob("*.nii.gz"))).array
    np.testing.assert_array_equal(mirrored, predict_volume(engine, read_volume(root / "case.nii.gz")).mask.array)
    with run_service(engine) as (port, _), httpx.Client(timeout=60, trust_env=False) as client:
        answer = client.post(f"http://127.0.0.1:{port}/predict", content=(root / "case.nii.gz").read_bytes())
    assert answer.status_code == httpx.codes.OK, answer.text
    (tmp_path / "mask.nii.gz").write_bytes(answer.content)
    np.testing.assert_array_equal(read_volume(tmp_path / "mask.nii.gz").array, mirrored)
    capsys.readouterr()
    assert main(["package", str(root / kind), "--format", "triton", "--out", str(tmp_path / "repository")]) != 0
    assert "has several networks, and Triton runs one; make a container of it" in capsys.readouterr().err
    assert not (tmp_path / "repository").exists()


def test_a_large_case_is_compared_in_its_middle(root: Path, tmp_path: Path) -> None:
    spec = open_engine(root / "joined/models/export").spec
    path = write_image(tmp_path / "large.nii.gz", size=(90, 40, 120))
    whole = read_volume(path)
    (middle,) = read_middles([InferenceCase("large", (path,))], spec)[0]
    # Windows of 16 × 24 × 24 voxels along (k, j, i), of 1.5 × 1.3 × 1.3 mm.
    sides = [1.5 * side * mm for side, mm in zip((24, 24, 16), (1.3, 1.3, 1.5), strict=True)]
    steps = whole.geometry.spacing
    expected = [min(n, int(np.ceil(mm / step))) for n, mm, step in zip(whole.array.shape, sides, steps, strict=True)]
    assert list(middle.array.shape) == expected
    corner = np.array([(n - side) // 2 for n, side in zip(whole.array.shape, expected, strict=True)])
    np.testing.assert_allclose(middle.geometry.origin, whole.geometry.to_physical(corner))
    box = tuple(slice(start, start + side) for start, side in zip(corner, expected, strict=True))
    np.testing.assert_array_equal(middle.array, whole.array[box])
    (noise,) = make_noise_volumes(spec)[0]
    assert (noise.array.shape, noise.geometry.spacing) == ((36, 36, 24), (1.3, 1.3, 1.5))
