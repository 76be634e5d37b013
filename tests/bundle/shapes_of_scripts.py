"""Bundles in the forms of those of the model zoo with scripts of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from tests.bundle.shape_parts import (
    DECATHLON,
    IMAGES,
    LOSS,
    OLD_RUNS,
    RUNS,
    SEED,
    TEST_IMAGES,
    TRAINING,
    VALIDATION,
    Config,
    compose,
    crop,
    evaluate_changes,
    evaluator,
    head,
    infer_config,
    learn,
    load,
    loader,
    network,
    part,
    restore,
    saver,
    train_part,
    trainer,
    unet,
    validate_part,
    write_config,
    write_script,
)

if TYPE_CHECKING:
    from pathlib import Path


def write_paths(bundle: Path, _data: Path) -> None:
    """valve_landmarks, mednist_reg: paths instead of dictionaries, a network and a saver of its own, ``net``."""
    write_script(
        bundle,
        "valves.py",
        """
        from pathlib import Path

        import numpy as np
        import torch
        from monai.transforms import MapTransform


        class PointRegressor(torch.nn.Module):
            def __init__(self, features):
                super().__init__()
                self.conv = torch.nn.Conv3d(1, features, 3, stride=2)
                self.fc = torch.nn.Linear(features, 1)

            def forward(self, x):
                return self.fc(self.conv(x).mean((2, 3, 4)))


        class NpySaverd(MapTransform):
            def __init__(self, keys, output_dir, data_root_dir):
                super().__init__(keys)
                self.folder = Path(output_dir)

            def __call__(self, data):
                self.folder.mkdir(parents=True, exist_ok=True)
                np.save(self.folder / "landmarks.npy", np.asarray(data["pred"]))
                return data


        def prepare(batch, device, non_blocking, **_):
            return batch.to(device), batch.mean((1, 2, 3, 4))[:, None]
        """,
    )
    ids = {
        "imports": ["$import os", "$import glob", "$import torch", "$import scripts"],
        "device": "$torch.device('cpu')",
        "dataset_dir": "/workspace/data",
        "ckpt_path": "$@bundle_root + '/models/model.pt'",
        "net": part("scripts.valves.PointRegressor", features=2),
        "image_load": [part("LoadImage", image_only=True, ensure_channel_first=True), part("ScaleIntensity")],
        "preprocessing": compose("@image_load"),
    }
    metric = {"val_mse": part("ignite.metrics.MeanSquaredError", output_transform="$lambda o: (o['pred'], o['label'])")}
    handlers = [part("StatsHandler", iteration_log=False)]
    validator = evaluator(
        "@val#data_loader",
        "@net",
        key_val_metric=metric,
        val_handlers="@val#handlers",
        metric_cmp_fn="$lambda x, y: y < 0 or x < y",
        prepare_batch="$scripts.valves.prepare",
        decollate=False,
    )
    train = ids | {
        "bundle_root": "./",
        "ckpt_dir": "$@bundle_root + '/models'",
        "ckpt": "",
        "datalist": "$list(sorted(glob.glob(@dataset_dir + '/imagesTr/*.nii.gz')))[:2]",
        "val_datalist": "$list(sorted(glob.glob(@dataset_dir + '/imagesTr/*.nii.gz')))[2:]",
        "dataset": part("CacheDataset", data="@datalist", transform="@preprocessing"),
        "data_loader": loader("@dataset", shuffle=True),
        "optimizer": part("torch.optim.Adam", params="$@net.parameters()", lr=0.01),
        "val": {
            "dataset": part("Dataset", data="@val_datalist", transform="@preprocessing"),
            "data_loader": loader("@val#dataset"),
            "handlers": [*handlers, saver("@ckpt_dir", "@net", save_key_metric=True, key_metric_negative_sign=True)],
            "evaluator": validator,
        },
        "handlers": [part("ValidationHandler", validator="@val#evaluator", epoch_level=True, interval=1)],
        "ckpt_loader": [restore("@ckpt", "@net")],
        "trainer": trainer(
            "@data_loader",
            "@net",
            max_epochs=1,
            epoch_length="$len(@datalist) // @data_loader#batch_size",
            loss_function=part("torch.nn.MSELoss"),
            optimizer="@optimizer",
            prepare_batch="$scripts.valves.prepare",
            train_handlers="$@handlers + @ckpt_loader if @ckpt else @handlers",
        ),
        "training": [SEED, "$[@trainer.run()]"],
    }
    write_config(bundle, "train.yaml", train)
    evaluate = {"val#handlers": [restore("$@ckpt_dir + '/model.pt'", "@net")], "evaluating": ["$@val#evaluator.run()"]}
    write_config(bundle, "evaluate.yaml", evaluate)
    save = part("scripts.valves.NpySaverd", keys="pred", output_dir="@output_dir", data_root_dir="@dataset_dir")
    infer = ids | {
        "output_dir": "./output",
        "datalist": "$list(sorted(glob.glob(@dataset_dir + '/imagesTs/*.nii*')))",
        "dataset": part("Dataset", data="@datalist", transform="@preprocessing"),
        "dataloader": loader("@dataset"),
        "postprocessing": compose([save]),
        "handlers": [
            part(
                "CheckpointLoader",
                _disabled_="$not os.path.exists(@ckpt_path)",
                load_path="@ckpt_path",
                load_dict={"net": "@net"},
            )
        ],
        "evaluator": evaluator(
            "@dataloader",
            "@net",
            postprocessing="@postprocessing",
            val_handlers="@handlers",
            decollate=False,
            prepare_batch="$scripts.valves.prepare",
        ),
        "evaluating": ["$@evaluator.run()"],
    }
    write_config(bundle, "inference.yaml", infer)


def write_detector(bundle: Path, _data: Path) -> None:
    """lung_nodule_ct_detection: engines and a saver of its own, ``_requires_``, one JSON for all cases, no masks."""
    write_script(
        bundle,
        "detection.py",
        """
        import json
        import os

        import torch
        from ignite.engine import Events
        from monai.engines import SupervisedEvaluator
        from monai.inferers import Inferer


        class Detector:
            def __init__(self, network):
                self.network, self.threshold = network, None

            def set_threshold(self, value):
                self.threshold = value


        class DetectorInferer(Inferer):
            def __init__(self, detector):
                self.detector = detector

            def __call__(self, inputs, network, *args, **kwargs):
                return torch.sigmoid(self.detector.network(inputs)) - self.detector.threshold


        class DetectionEvaluator(SupervisedEvaluator):
            pass


        class DetectionSaver:
            def __init__(self, output_dir, filename):
                self.path, self.rows = os.path.join(output_dir, filename), []

            def attach(self, engine):
                engine.add_event_handler(Events.ITERATION_COMPLETED, self.note)
                engine.add_event_handler(Events.COMPLETED, self.save)

            def note(self, engine):
                self.rows += [float(item["pred"].mean()) for item in engine.state.output]

            def save(self, engine):
                os.makedirs(os.path.dirname(self.path), exist_ok=True)
                with open(self.path, "w") as file:
                    json.dump(self.rows, file)
        """,
    )
    detector: Config = {
        "detector": part("scripts.detection.Detector", network="@network"),
        "detector_ops": ["$@detector.set_threshold(0.02)"],
        "data_list_file_path": "$@bundle_root + '/configs/datalist.json'",
    }
    lists = {"train_datalist": DECATHLON.format("training"), "val_datalist": DECATHLON.format("validation")}
    train = head(**detector, **lists) | network(unet(1, 1)) | learn() | OLD_RUNS
    train["loss"] = part("DiceLoss", sigmoid=True)
    raw = {"_disabled_": "$not @whether_raw"}
    transforms = load("image", "label")
    transforms.insert(1, part("Spacingd", keys=["image", "label"], pixdim=[1, 1, 1], **raw))
    train["whether_raw"] = False
    post = compose([part("AsDiscreted", keys="pred", threshold=0.4)])
    train["train"] = train_part("$@train_datalist", deterministic_transforms=transforms, postprocessing=post)
    train["validate"] = validate_part(
        "$@val_datalist", inferer=part("scripts.detection.DetectorInferer", detector="@detector")
    )
    train["validate"]["key_metric"]["val_mean_dice"]["include_background"] = True
    train["validate"]["evaluator"] |= {
        "_target_": "scripts.detection.DetectionEvaluator",
        "_requires_": "@detector_ops",
    }
    write_config(bundle, "train.json", train)
    write_config(bundle, "evaluate.json", evaluate_changes(entry="evaluating"))
    config = infer_config("$@test_datalist", unet(1, 1), **detector, test_datalist=DECATHLON.format("testing"))
    config["handlers"].append(
        part("scripts.detection.DetectionSaver", output_dir="@output_dir", filename="result_fold0.json")
    )
    config["inferer"] = part("scripts.detection.DetectorInferer", detector="@detector")
    config["evaluator"] |= {"_target_": "scripts.detection.DetectionEvaluator", "_requires_": "@detector_ops"}
    config["postprocessing"] = None
    config["evaluating"] = config.pop("run")
    write_config(bundle, "inference.json", config)


def write_merged(bundle: Path, _data: Path) -> None:
    """vista3d, spleen_deepedit: several files, fields of other names, a smart cache, workers, weights to begin with."""
    write_script(bundle, "score.py", "def score_function(engine):\n    return engine.state.metrics['val_mean_dice']\n")
    (bundle / "models").mkdir(parents=True)
    torch.manual_seed(9)
    from monai.bundle import ConfigParser

    torch.save(ConfigParser(unet()).get_parsed_content().state_dict(), bundle / "models/pretrained.pt")
    common = head(**IMAGES) | network(unet()) | {"finetune": True, "early_stop": True, "use_tensorboard": False}
    common["imports"] = [*common["imports"], "$import scripts"]
    write_config(bundle, "common.yaml", common)
    zipped = TRAINING.replace("'image'", "'img'").replace("'label'", "'seg'")
    validation = VALIDATION.replace("'image'", "'img'").replace("'label'", "'seg'")
    smart = part(
        "SmartCacheDataset", data=zipped, transform="@train#preprocessing", replace_rate=0.5, cache_num=2, shuffle=False
    )
    batch = "$lambda b, device, non_blocking, **_: (b['img'].to(device), b['seg'].to(device))"
    train = (
        learn()
        | RUNS
        | {
            "train": train_part(
                None,
                dataset=smart,
                deterministic_transforms=load("img", "seg"),
                random_transforms=[crop("img", "seg")],
                key_metric=None,
                dataloader=loader("@train#dataset", num_workers=1, shuffle=True, persistent_workers=True),
            ),
            "validate": validate_part(validation),
        }
    )
    train["train"]["trainer"]["prepare_batch"] = batch
    train["validate"]["evaluator"]["prepare_batch"] = batch
    stop = part(
        "EarlyStopHandler",
        _disabled_="$not @early_stop",
        trainer=None,
        patience=2,
        score_function="$scripts.score.score_function",
    )
    train["validate"]["handlers"] = [stop, *train["validate"]["handlers"][::2]]
    train["train"]["handlers"] = [
        restore("$@bundle_root + '/models/pretrained.pt'", _disabled_="$not @finetune"),
        *train["train"]["handlers"][:2],
        part(
            "TensorBoardStatsHandler", _disabled_="$not @use_tensorboard", log_dir="@output_dir", output_transform=LOSS
        ),
    ]
    train["run"] = [
        "$@validate#handlers#0.set_trainer(trainer=@train#trainer) if @early_stop else None",
        "$@train#trainer.add_event_handler(ignite.engine.Events.ITERATION_COMPLETED, ignite.handlers.TerminateOnNan())",
        "$@train#trainer.run()",
    ]
    write_config(bundle, "train.json", train)
    write_config(bundle, "evaluate.json", evaluate_changes())
    config = infer_config("$[{'img': i} for i in @datalist]", unet(), **TEST_IMAGES, preprocessing=compose(load("img")))
    config["evaluator"]["prepare_batch"] = "$lambda b, device, non_blocking, **_: (b['img'].to(device), None)"
    config["postprocessing"]["transforms"][1]["orig_keys"] = "img"
    config["postprocessing"]["transforms"][3]["output_dir"] = "$os.path.join(@output_dir, 'masks')"
    config["dataloader"]["num_workers"] = 1
    write_config(bundle, "inference.json", config)
