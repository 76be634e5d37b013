"""Every configuration that the seeds print is read without a fault, into one model whatever its dialect."""

from __future__ import annotations

from pathlib import Path

import pytest

from voxflow.config import Evaluation, Workflow, detect_dialect, load_evaluation, load_workflow, read_json

SEEDS = Path(__file__).parent / "seeds"
TRAINING = sorted(SEEDS.glob("*_train.json"))
EVALUATION = sorted([*SEEDS.glob("*_validation.json"), *SEEDS.glob("*_evaluate.json"), *SEEDS.glob("*_infer.json")])
EVALUATION.remove(SEEDS / "environment_infer.json")


def read(name: str, **overrides: object) -> Workflow:
    return load_workflow(SEEDS / name, overrides={"DATA_ROOT": "/data", "DATASET_JSON": "/data/list.json", **overrides})


def read_evaluation(name: str) -> Evaluation:
    return load_evaluation(SEEDS / name, overrides={"MMAR_EVAL_OUTPUT_PATH": "eval", "MMAR_CKPT_DIR": "models"})


def test_the_seeds_are_all_here() -> None:
    assert (len(TRAINING), len(EVALUATION)) == (4, 5)


@pytest.mark.parametrize("path", [*TRAINING, *EVALUATION], ids=lambda path: path.stem)
def test_the_dialect_is_told_by_the_content(path: Path) -> None:
    assert detect_dialect(read_json(path)) == path.name.partition("_")[0]


@pytest.mark.parametrize("path", TRAINING, ids=lambda path: path.stem)
def test_a_training_configuration_checks_clean(path: Path) -> None:
    workflow = read(path.name)
    radiographs = "chestxray" in path.name or "plco" in path.name
    assert workflow.task == ("classification" if radiographs else "segmentation")
    assert workflow.train.image_pipeline.args["data_list_file_path"] == "/data/list.json"


@pytest.mark.parametrize("path", EVALUATION, ids=lambda path: path.stem)
def test_a_configuration_of_validation_or_inference_checks_clean(path: Path) -> None:
    evaluation = read_evaluation(path.name)
    assert evaluation.task == ("classification" if "plco" in path.name else "segmentation")
    assert evaluation.transforms
    assert evaluation.writers
    assert bool(evaluation.val_metrics) is not path.name.endswith("_infer.json")


def test_the_brain_tumours_become_a_workflow() -> None:
    workflow = read("tlt2_brats_train.json")
    values, train, validate = workflow.globals, workflow.train, workflow.validate
    assert (values.epochs, values.learning_rate, values.record_step) == (200, 1e-3, "every_epoch")
    assert (values.num_label_channels, values.continue_from_checkpoint_epoch) == (3, True)
    assert train.model.name == "tlt2:SegmResnet"
    assert train.model.args["in_channels"] == 4
    assert train.model.args["num_classes"] == 3
    assert train.model.args["blocks_down"] == "1,2,2,4"
    assert [c.name for c in train.aux_ops] == ["tlt2:dice_metric_masked_output"]
    assert train.image_pipeline.name == "SegmentationImagePipeline"
    assert train.image_pipeline.args["output_crop_size"] == [224, 224, 128]
    assert train.image_pipeline.args["num_workers"] == 8
    assert validate.inferer.name == "TFSimpleInferer"
    assert [c.args["applied_key"] for c in validate.metrics] == ["dice", "dice_tc", "dice_wt", "dice_et"]
    assert train.pre_transforms[1].where == "train.pre_transforms[1]"


def test_the_radiographs_become_a_workflow() -> None:
    workflow = read("tlt2_plco_train.json")
    train = workflow.train
    assert train.model.name == "tlt2:Densenet121"
    assert train.model.args["weight_decay"] == 1e-5
    assert train.model.args["data_format"] == "channels_last"
    assert train.image_pipeline.name == "ClassificationImagePipeline"
    assert train.image_pipeline.args["output_batch_size"] == 40
    assert workflow.globals.multi_gpu
    assert len(workflow.validate.metrics) == 17
    assert workflow.validate.metrics[0].args["applied_key"] == "accuracy"


def test_an_evaluation_of_tlt_knows_the_graph_s_names() -> None:
    evaluation = read_evaluation("tlt2_plco_evaluate.json")
    assert evaluation.output_names == ("model", "outputs")
    assert (evaluation.input_name, evaluation.batch_size) == ("image", 40)
    assert (evaluation.inferer, evaluation.model_loader, evaluation.data_list_key) == (None, None, "validation")


def test_an_evaluation_of_clara_follows_its_environment() -> None:
    evaluation = load_evaluation(
        SEEDS / "clara3_spleen_validation.json",
        environment=SEEDS / "environment_infer.json",
        overrides={"do_validation": False},
    )
    assert (evaluation.data_list_key, evaluation.do_validation, evaluation.output_infer_result) == (
        "my_infer_key",
        False,
        True,
    )
    assert evaluation.model_loader is not None
    assert evaluation.model_loader.args == {"model_file_path": "models/model.trt.pb"}
    assert evaluation.variables["DATASET_JSON"].endswith("/data_list.json")
    assert [c.name for c in evaluation.post_transforms] == [
        "ArgmaxAcrossChannels",
        "SplitBasedOnLabel",
        "CopyProperties",
    ]
