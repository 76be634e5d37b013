"""A bundle that would read, load or write elsewhere is refused, and leaves nothing: not elsewhere, and no result."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest
import torch

from tests.bundle.shape_parts import CASES, load, loader, part, restore, write_script
from tests.bundle.shapes import SHAPES
from tests.bundle.workspaces import Workspace, list_files
from voxflow.errors import VoxflowError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytest.importorskip("ignite", reason="MONAI's engines need pytorch-ignite: pip install voxflow[bundle]")
pytestmark = pytest.mark.filterwarnings("ignore")
STAGE_FILES = {"train": "train.json", "evaluate": "evaluate.json", "infer": "inference.json"}
RUNS = {"train": "$@train#trainer.run()", "evaluate": "$@validate#evaluator.run()", "infer": "$@evaluator.run()"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Gives a trained workspace of a shape, whose bundle came with other weights."""
    roots: dict[str, Path] = {}

    def get(name: str) -> Path:
        if name not in roots:
            workspace = Workspace(tmp_path_factory.mktemp(name) / "ws", SHAPES[name])
            workspace.train()
            weights = torch.load(workspace.model / "model.pt", weights_only=True)
            (workspace.bundle / "models").mkdir(exist_ok=True)
            torch.save(
                {key: torch.zeros_like(value) for key, value in weights.items()}, workspace.bundle / "models/model.pt"
            )
            roots[name] = workspace.root
        return roots[name]

    return get


@pytest.fixture
def workspace(
    trained: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Workspace]:
    """Gives a copy of a trained workspace; the present folder is an empty one beside it."""

    def get(name: str) -> Workspace:
        shutil.copytree(trained(name), tmp_path / "ws")
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        return Workspace(tmp_path / "ws", SHAPES[name])

    return get


def refuse(workspace: Workspace, stage: str, match: str, **changes: Any) -> None:
    """Run a stage, which must be refused, and look at what is left."""
    elsewhere = workspace.root.parent / "elsewhere"
    folders = [workspace.bundle, workspace.data, elsewhere, *([workspace.model] if stage != "train" else [])]
    before = [list_files(folder) for folder in folders]
    with pytest.raises(VoxflowError, match=match):
        workspace.run(stage, **changes)
    assert before == [list_files(folder) for folder in folders]
    if stage == "train":
        assert not list(workspace.model.glob("*.pt"))
    else:
        assert not list(workspace.out(stage).iterdir())


# --- what is read ----------------------------------------------------------------------------------------------------

ITEM = {"image": "DATA/imagesTr/c0.nii.gz", "label": "DATA/labelsTr/c0.nii.gz"}
OTHER = part("Dataset", data=[ITEM], transform="@train#preprocessing")
OTHER_LOADER = part("DataLoader", dataset=OTHER | {"transform": "@validate#preprocessing"})
TRAIN_SET = "train#dataloader#dataset"
READ = r"reads .*{}.nii.gz, which is no case of the {}"
IMAGE = ITEM["image"]


@pytest.mark.parametrize(
    ("stage", "values", "match"),
    [
        ("train", {TRAIN_SET: OTHER}, "'train#trainer' goes through 1 of the training's 2 images: it reads other data"),
        ("train", {TRAIN_SET: "@validate#dataset"}, READ.format("c2", "training")),
        ("train", {TRAIN_SET: "$torch.utils.data.Subset(@train#dataset, [1])"}, "1 of the training's 2 images"),
        ("train", {"validate#dataloader#dataset": "@train#dataset"}, READ.format("c.", "validation")),
        ("evaluate", {"validate#dataloader": OTHER_LOADER}, READ.format("c0", "stage") + r" \(id validate#dataloader#"),
        (
            "evaluate",
            {"initialize": [f"$monai.transforms.LoadImage()('{IMAGE}')"]},
            r"stage \(id initialize#0:",
        ),
        (
            "infer",
            {"initialize": [f"$__import__('nibabel').load('{IMAGE}').get_fdata()"]},
            READ.format("c0", ""),
        ),
        ("infer", {"initialize": [f"$__import__('SimpleITK').ReadImage('{IMAGE}')"]}, READ.format("c0", "")),
    ],
)
def test_other_cases_are_not_read(
    workspace: Callable[[str], Workspace], stage: str, values: dict[str, Any], match: str
) -> None:
    spleen = workspace("globbed")
    spleen.change(STAGE_FILES[stage], fill(values, spleen))
    refuse(spleen, stage, match)


def fill(value: Any, workspace: Workspace) -> Any:
    """Put the data's folder and the folder beside the workspace in the place of their marks."""
    if isinstance(value, dict):
        return {key: fill(item, workspace) for key, item in value.items()}
    if isinstance(value, list):
        return [fill(item, workspace) for item in value]
    marks = {"DATA": workspace.data, "ELSEWHERE": workspace.root.parent / "elsewhere", "BUNDLE": workspace.bundle}
    for mark, folder in marks.items():
        value = value.replace(mark, str(folder)) if isinstance(value, str) else value
    return value


def test_a_batch_that_is_dropped_is_noticed(workspace: Callable[[str], Workspace]) -> None:
    spleen = workspace("globbed")
    spleen.change("evaluate.json", {"validate#dataloader": loader("@validate#dataset", batch_size=2, drop_last=True)})
    refuse(spleen, "evaluate", "went through 2 cases, and the stage has 3", items=spleen.items(*CASES[:3]))


def test_a_list_in_the_place_of_a_data_set_is_named_and_taken(workspace: Callable[[str], Workspace]) -> None:
    spleen = workspace("globbed")
    expected = spleen.train()
    cached = part("CacheDataset", data="@train#dataset", transform="@train#preprocessing")
    spleen.change("train.json", {"train#dataset": [ITEM], "train#dataloader#dataset": cached})
    match = r"no id 'train#dataset#data' that the split's cases could be put in.*\(here: .*train#dataset\)"
    refuse(spleen, "train", match)
    numbers = spleen.train(train_data="train#dataset")
    assert {**numbers, "seconds": 0} == {**expected, "seconds": 0}


def test_fields_that_no_case_has_are_named(workspace: Callable[[str], Workspace]) -> None:
    spleen = workspace("globbed")
    spleen.change("inference.json", {"preprocessing#transforms": load("scan")})
    refuse(spleen, "infer", r"preprocessing#transforms#0#keys: loads 'scan', and a case has image: infer.image_key and")


# --- what is loaded --------------------------------------------------------------------------------------------------

OWN = "BUNDLE/models/model.pt"
LOAD = f"@network.load_state_dict(torch.load('{OWN}', weights_only=True))"
LOAD_BYTES = f"$@network.load_state_dict(torch.load(io.BytesIO(open('{OWN}', 'rb').read())))"
HANDLERS, RUN = "validate#handlers", RUNS["evaluate"]
OTHER_LOADED = r"loads .*config/models/model.pt, where .*train/model.pt is to be judged"


def at(event: str, action: str) -> str:
    return f"$@validate#evaluator.add_event_handler(ignite.engine.Events.{event}, lambda: {action})"


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({HANDLERS: []}, "the configuration loaded no weights, so that .*train/model.pt was not judged"),
        ({f"{HANDLERS}#0#_disabled_": True}, "the configuration loaded no weights"),
        ({HANDLERS: [], "initialize": [f"${LOAD}"]}, OTHER_LOADED + r" \(id initialize#0:"),
        (
            {HANDLERS: [f"$monai.handlers.CheckpointLoader('{OWN}', {{'model': @network}})"]},
            OTHER_LOADED + r" \(id validate#handlers#0:",
        ),
        ({HANDLERS: [], "initialize": [LOAD_BYTES]}, "the configuration loaded no weights"),
        ({"run": [at("STARTED", LOAD), RUN]}, OTHER_LOADED + r" \(id run#0:"),
        ({"run": [at("ITERATION_STARTED", LOAD), RUN]}, OTHER_LOADED),
        (
            {"other": "$copy.deepcopy(@network_def)", HANDLERS: [restore("x.pt", "@other")]},
            "the evaluator's network does not hold the weights of .*train/model.pt",
        ),
        (
            {"run": [at("STARTED", "[p.data.zero_() for p in @network.parameters()]"), RUN]},
            "the evaluator's network does not hold the weights",
        ),
    ],
)
def test_other_weights_are_not_judged(
    workspace: Callable[[str], Workspace], values: dict[str, Any], match: str
) -> None:
    spleen = workspace("globbed")
    imports = ["$import torch", "$import glob", "$import ignite", "$import io", "$import copy"]
    spleen.change("evaluate.json", fill({"imports": imports, **values}, spleen))
    refuse(spleen, "evaluate", match)


def test_weights_that_the_stages_replace_may_be_loaded_before(workspace: Callable[[str], Workspace]) -> None:
    spleen = workspace("globbed")
    expected = spleen.evaluate()
    spleen.change("evaluate.json", fill({"initialize": [f"${LOAD}"]}, spleen))
    assert spleen.evaluate() == expected


def test_a_path_of_weights_of_any_id_is_replaced_once_it_is_named(workspace: Callable[[str], Workspace]) -> None:
    spleen = workspace("globbed")
    expected = spleen.evaluate()
    loading = "$@network.load_state_dict(torch.load(@best_model, weights_only=True))"
    values = {"best_model": "$@bundle_root + '/models/model.pt'", "initialize": [loading], HANDLERS: []}
    spleen.change("evaluate.json", values)
    shutil.rmtree(spleen.out("evaluate"))
    refuse(spleen, "evaluate", OTHER_LOADED + r" \(ids? .*best_model.*: `load_path` names the id of a path")
    assert spleen.evaluate(load_path="best_model") == expected


def test_a_second_engine_judges_no_other_weights(workspace: Callable[[str], Workspace]) -> None:
    spleen = workspace("globbed")
    other = {"_target_": "SupervisedEvaluator", "device": "@device", "val_data_loader": "@validate#dataloader"}
    values = {
        "first": "$copy.deepcopy(@network_def)",
        "second": other | {"network": "@first"},
        "imports": ["$import torch", "$import glob", "$import ignite", "$import copy"],
        "run": [LOAD.replace("@network", "$@first"), RUN, "$@second.run()"],
    }
    spleen.change("evaluate.json", fill(values, spleen))
    refuse(spleen, "evaluate", OTHER_LOADED)


def test_a_training_begins_with_the_weights_that_the_bundle_begins_with(workspace: Callable[[str], Workspace]) -> None:
    spleen = workspace("globbed")
    path = "$@ckpt_dir + '/model.pt'"
    first = restore(path, _disabled_="$not os.path.exists(@ckpt_dir + '/model.pt')")
    handlers = [first, part("ValidationHandler", validator="@validate#evaluator", interval=1)]
    spleen.change("train.json", {"train#handlers": handlers, "optimizer#lr": 0.0})
    own = torch.load(spleen.bundle / "models/model.pt", weights_only=True)
    spleen.train()
    trained = torch.load(spleen.model / "model.pt", weights_only=True)
    assert all(torch.equal(trained[name], own[name]) for name in own if name.endswith("weight"))
    spleen.change("train.json", {"first": "$torch.load(@ckpt_dir + '/model.pt')"})
    refuse(spleen, "train", "first: looks for files in 'ckpt_dir', which is the stage's own folder")


# --- what is written -------------------------------------------------------------------------------------------------

HELPERS = """
    import os
    import shutil
    import sqlite3
    import tempfile
    import threading
    from concurrent.futures import ThreadPoolExecutor
    from pathlib import Path

    import nibabel
    import numpy as np
    import SimpleITK
    import torch


    def copy(image, target):
        shutil.copy(image, target / "x")

    def move(image, target):
        Path("{OUT}/x").write_text("x")
        shutil.move("{OUT}/x", target / "x")

    def replace(image, target):
        Path("{OUT}/x").write_text("x")
        os.replace("{OUT}/x", target / "x")

    def append(image, target):
        with open(target / "x", "a") as file:
            file.write("x")

    def low_level(image, target):
        os.close(os.open(target / "x", os.O_WRONLY | os.O_CREAT))

    def numpy(image, target):
        np.save(target / "x.npy", np.zeros(2))

    def pickled(image, target):
        torch.save({}, target / "x.pt")

    def scripted(image, target):
        torch.jit.script(torch.nn.ReLU()).save(target / "x.ts")

    def nifti(image, target):
        nibabel.save(nibabel.load(image), target / "x.nii.gz")

    def itk(image, target):
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(np.zeros((2, 2))), str(target / "x.mha"))

    def database(image, target):
        sqlite3.connect(target / "x.db")

    def folder(image, target):
        (target / "a/b").mkdir(parents=True)

    def linked(image, target):
        os.symlink(target, "{OUT}/link")
        Path("{OUT}/link/x").write_text("x")

    def link_there(image, target):
        os.symlink(image, target / "x")

    def relative(image, target):
        Path(os.path.relpath(target / "x")).write_text("x")

    def threaded(image, target):
        with ThreadPoolExecutor(1) as pool:
            pool.submit((target / "x").write_text, "x").result()

    def caught(image, target):
        try:
            (target / "x").write_text("x")
        except Exception:
            pass

    def temporary(image, target):
        tempfile.NamedTemporaryFile(dir=target).close()

    def remove(image, target):
        os.remove(image)

    def remove_tree(image, target):
        shutil.rmtree(Path(image).parent)

    def rename(image, target):
        os.rename(image, image + ".old")

    def truncate(image, target):
        os.truncate(image, 0)
"""
WAYS = [line.split()[1].partition("(")[0] for line in HELPERS.splitlines() if line.startswith("    def ")]


@pytest.mark.parametrize("way", WAYS)
def test_no_file_is_written_elsewhere(workspace: Callable[[str], Workspace], way: str) -> None:
    spleen = workspace("globbed")
    write_script(spleen.bundle, "writers.py", HELPERS.replace("{OUT}", str(spleen.out("infer"))))
    target = {"linked": "DATA", "relative": "BUNDLE"}.get(way, "ELSEWHERE")
    call = f"$scripts.writers.{way}('DATA/imagesTs/c3.nii.gz', scripts.writers.Path('{target}'))"
    imports = ["$import glob", "$import torch", "$import scripts"]
    spleen.change("inference.json", fill({"imports": imports, "run": [RUNS["infer"], call]}, spleen))
    refuse(spleen, "infer", r"the bundle writes .*, outside of .*eval/infer")


SAVE, TRACK, KEEP = "postprocessing#transforms#3", "train#handlers#2", "validate#handlers#2"
SAVER = "$monai.handlers.CheckpointSaver(@bundle_root + '/weights', {'m': @network}, save_final=True)"
METRICS_SAVER = "$monai.handlers.MetricsSaver(save_dir='ELSEWHERE/m', metrics='*')"
CACHE = "$monai.data.PersistentDataset([], None, @bundle_root + '/cache')"


@pytest.mark.parametrize(
    ("shape", "stage", "values", "match"),
    [
        (
            "globbed",
            "evaluate",
            {f"{KEEP}#save_dir": "ELSEWHERE/m"},
            f"{KEEP}#save_dir: writes to .*/m, which is not in",
        ),
        ("globbed", "infer", {f"{SAVE}#output_dir": "./masks"}, f"{SAVE}#output_dir: writes to .*elsewhere/masks"),
        ("globbed", "infer", {f"{SAVE}#output_dir": "$__import__('pathlib').Path('masks')"}, "writes to .*elsewhere/m"),
        ("globbed", "infer", {f"{SAVE}#output_postfix": "/../../../masks"}, "the bundle writes .*, outside of"),
        (
            "globbed",
            "train",
            {f"{TRACK}#log_dir": "$@bundle_root + '/log'"},
            f"{TRACK}#log_dir: writes to .*config/log",
        ),
        (
            "globbed",
            "train",
            {f"{KEEP}#save_dir": "$@bundle_root + '/models'"},
            f"{KEEP}#save_dir: writes to .*/models",
        ),
        ("globbed", "train", {KEEP: SAVER}, r"writes .*config/weights.*, outside of .*models/train \(id"),
        ("globbed", "evaluate", {KEEP: METRICS_SAVER}, r"writes .*elsewhere/m, outside of .*\(id validate#handlers#2:"),
        ("globbed", "train", {"train#dataset": CACHE}, "no id 'train#dataset#data' that the split's cases"),
        ("globbed", "infer", {"initialize": [CACHE]}, "writes .*config/cache, outside of"),
        ("classifier", "infer", {"handlers#2#filename": "../../classes.csv"}, r"/classes.csv, .*\(id handlers#2#filen"),
        ("detector", "infer", {"handlers#2#filename": "ELSEWHERE/x.json"}, r"x.json, .*\(id handlers#2#filename:"),
        ("paths", "infer", {"postprocessing#transforms#0#output_dir": "./x"}, "transforms#0#output_dir: writes to"),
        ("endoscopic", "infer", {f"{SAVE}#output_dir": "$@dataset_dir"}, f"{SAVE}#output_dir: writes to /workspace"),
    ],
)
def test_no_component_writes_elsewhere(
    workspace: Callable[[str], Workspace], shape: str, stage: str, values: dict[str, Any], match: str
) -> None:
    bundle = workspace(shape)
    file = STAGE_FILES[stage] if shape != "paths" else "inference.yaml"
    bundle.change(file, fill(values, bundle))
    refuse(bundle, stage, match)


@pytest.mark.parametrize("start", ["fork", *(pytest.param(s, marks=pytest.mark.slow) for s in ("spawn", "forkserver"))])
def test_worker_processes_are_held(workspace: Callable[[str], Workspace], start: str) -> None:
    spleen = workspace("globbed")
    write_script(
        spleen.bundle,
        "steps.py",
        f"""
        from pathlib import Path

        from monai.transforms import MapTransform


        class Spill(MapTransform):
            def __call__(self, data):
                Path("{spleen.root.parent}/elsewhere/x").write_text("x")
                return data
        """,
    )
    transforms = [*load("image"), part("scripts.steps.Spill", keys="image")]
    workers = loader("@dataset", num_workers=1, multiprocessing_context=start)
    spleen.change("inference.json", {"preprocessing#transforms": transforms, "dataloader": workers})
    refuse(spleen, "infer", "the bundle writes .*elsewhere/x, outside of .*eval/infer")


def test_what_another_program_leaves_in_the_bundle_ends_the_run(workspace: Callable[[str], Workspace]) -> None:
    spleen = workspace("globbed")
    call = "$os.system('touch BUNDLE/models/left.pt')"
    spleen.change("inference.json", fill({"run": [RUNS["infer"], call]}, spleen))
    with pytest.raises(VoxflowError, match=r"the bundle wrote, changed or removed .*models/left.pt, outside of"):
        spleen.infer()
    assert not list(spleen.out("infer").iterdir())


def test_two_cases_do_not_share_a_mask(workspace: Callable[[str], Workspace]) -> None:
    spleen = workspace("globbed")
    (spleen.data / "second").mkdir()
    shutil.copy(spleen.data / "imagesTs/c3.nii.gz", spleen.data / "second/c3.nii.gz")
    items = [{"image": str(spleen.data / f"{folder}/c3.nii.gz")} for folder in ("imagesTs", "second")]
    refuse(
        spleen,
        "infer",
        r"writes .*c3_trans.nii.gz twice, for two cases or fields; give SaveImage data_root_dir",
        items=items,
    )
    spleen.change("inference.json", {"postprocessing#transforms#3#data_root_dir": "@dataset_dir"})
    assert spleen.infer(items=items) == {"cases": 2}
    assert len(list(spleen.out("infer").rglob("*.nii.gz"))) == 2


# --- what is run -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stage", "values", "match"),
    [
        ("evaluate", {"run": ["$print('done')"]}, "ran no engine 'validate#evaluator'"),
        ("evaluate", {"run": [RUNS["train"]]}, r"run: runs 'train#trainer', which trains; run_id names what"),
        ("train", {"run": ["$print('done')"]}, "ran no engine 'train#trainer'"),
        ("infer", {f"{SAVE}#_disabled_": True}, "the bundle's inference wrote nothing to .*; give it a SaveImaged"),
        ("infer", {"run": ["$@evaluator.run() if False else 1"]}, "ran no engine 'evaluator'"),
    ],
)
def test_a_run_that_is_not_the_stages_gives_nothing_out(
    workspace: Callable[[str], Workspace], stage: str, values: dict[str, Any], match: str
) -> None:
    spleen = workspace("globbed")
    spleen.change(STAGE_FILES[stage], values)
    refuse(spleen, stage, match)


def test_an_entry_of_another_name_is_advised(workspace: Callable[[str], Workspace]) -> None:
    brats = workspace("listed")
    refuse(brats, "train", r"no id 'run' to run; run_id names it .* \(here: training\)", run_id="run")


def test_an_engine_of_another_name_is_advised(workspace: Callable[[str], Workspace]) -> None:
    spleen = workspace("globbed")
    refuse(spleen, "infer", r"no id 'the_evaluator'", evaluator="the_evaluator")


def test_bundles_of_one_process_have_their_own_scripts(workspace: Callable[[str], Workspace], tmp_path: Path) -> None:
    valves = workspace("paths")
    assert valves.infer() == {"cases": 1}
    lungs = Workspace(tmp_path / "other", SHAPES["detector"])
    assert lungs.train()["steps"] == 2
