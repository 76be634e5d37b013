"""The configurations of a bundle, as in MONAI's model zoo: train.json, evaluate.json and inference.json.

Longer than most files: each of the three is one object that is read from top to bottom.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from voxflow.components import Component, plain_name
from voxflow.config import read_json
from voxflow.errors import ConfigError
from voxflow.migrate.report import MigrationReport
from voxflow.migrate.spatial import describe_centre_crop
from voxflow.migrate.translation import Node, Translation, node, translate
from voxflow.migrate.workspace import CROPS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from voxflow.migrate.report import Verdict
    from voxflow.migrate.translation import Facts
    from voxflow.migrate.workspace import MigrationSource

LOSS = "$monai.handlers.from_engine(['loss'], first=True)"
FILES = "$lambda x: [i['image'].meta for i in x]"
GPU = "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')"
# A folder beside the datalist that an inference is usually asked for first.
INFERENCE_KEYS = ("inference", "testing", "test", "validation")


class Bundle:
    """A bundle in the making.

    Attributes:
        report: what became of each component.
        train: configs/train.json.
        evaluate: configs/evaluate.json; to be read after train.json.
        inference: configs/inference.json.
    """

    def __init__(self, source: MigrationSource) -> None:
        self.source, self.report = source, MigrationReport()
        self.facts: Facts = source.facts
        self.network = self._translate_required("network", source.network, "train.model")
        self.train = self._make_train()
        self.inference = self._make_inference()
        self.evaluate = self._make_evaluate()

    def _translate(self, kind: str, component: Component, json_path: str = "", *, fixed: bool = False) -> Translation:
        """Translate one component and note what became of it; ``fixed``: Voxflow draws the same at every validation."""
        translation = translate(kind, component, self.facts)
        if (
            fixed
            and translation.verdict == "exact"
            and any(n["_target_"].startswith("Rand") for n in translation.nodes)
        ):
            why = "MONAI draws anew at every validation, Voxflow the same for each case"
            translation = replace(translation, verdict="approximate", why=why)
        place, name = json_path or component.where, plain_name(component.name)
        self.report.add(place, name, translation.becomes, translation.verdict, translation.why)
        return translation

    def _translate_required(self, kind: str, component: Component, json_path: str = "") -> Any:
        value = self._translate(kind, component, json_path).value
        if value is None:
            message = f"{component.name} has no counterpart in MONAI, and a bundle without its {kind} can't run"
            raise ConfigError(message, path=self.source.workflow.path, where=json_path or component.where)
        return value

    def _translate_all(self, kind: str, components: Iterable[Component], *, fixed: bool = False) -> list[Node]:
        return [item for component in components for item in self._translate(kind, component, fixed=fixed).nodes]

    def _make_places(self) -> dict[str, Any]:
        """What both train.json and inference.json begin with."""
        source = self.source
        stated = str(source.variables.get("DATASET_JSON", ""))
        datalist = "$@bundle_root + '/configs/datalist.json'" if source.datalist else stated
        return {
            "imports": ["$import math", "$import torch", "$import monai", "$import ignite"],
            "bundle_root": ".",
            "ckpt_dir": "$@bundle_root + '/models'",
            "output_dir": "$@bundle_root + '/eval'",
            "data_list_file_path": datalist,
            "dataset_dir": str(source.data_root.resolve()),
            "device": GPU,
            "network_def": self.network,
            "network": "$@network_def.to(@device)",
        }

    def _make_train(self) -> dict[str, Any]:
        workflow = self.source.workflow
        values, section = workflow.globals, workflow.train
        self._note_globals()
        content = self._make_places() | {
            "epochs": values.epochs,
            "val_interval": values.num_training_epoch_per_valid,
            "learning_rate": values.learning_rate,
            "amp": "$torch.cuda.is_available()" if values.use_amp else False,
            "loss": self._translate_required("loss", section.loss),
            "optimizer": self._translate_required("optimizer", section.optimizer),
        }
        if section.lr_policy is not None:
            scheduler = self._translate("lr_policy", section.lr_policy).value
            if scheduler is not None:
                content |= {"total_steps": "$@epochs * len(@train#dataloader)", "lr_scheduler": scheduler}
        content["train"] = self._make_training("lr_scheduler" in content)
        content["validate"] = self._make_validation()
        seed = values.determinism.random_seed
        content["initialize"] = [f"$monai.utils.set_determinism(seed={0 if seed is None else seed})"]
        return content | {"run": ["$@train#trainer.run()"]}

    def _note_globals(self) -> None:
        values, add = self.source.workflow.globals, self.report.add
        keys = {"epochs": "epochs", "num_training_epoch_per_valid": "val_interval", "learning_rate": "learning_rate"}
        for name, key in keys.items():
            add(name, str(getattr(values, name)), key, "exact")
        if values.use_amp:
            add("use_amp", "true", "amp", "approximate", "half precision by autocast, on a GPU only")
        seeds = values.determinism.model_dump(exclude_none=True)
        if seeds:
            add("determinism", ", ".join(seeds), "set_determinism", "approximate", "one seed for every library")
        if values.multi_gpu:
            why = "start it with torchrun and a configuration that wraps the network, as MONAI's tutorials show"
            add("multi_gpu", "true", "", "not carried", why)

    def _make_training(self, has_scheduler: bool) -> dict[str, Any]:
        section = self.source.workflow.train
        transforms = [
            *self._translate_all("transform", section.pre_transforms),
            *self._make_cropping(section.image_pipeline, section.pre_transforms),
        ]
        transforms.append(self._make_typing())
        first = next(
            (n for n, transform in enumerate(transforms) if transform["_target_"].startswith("Rand")), len(transforms)
        )
        self._translate_all("aux_op", section.aux_ops)
        self._note_extras(section.batch_transforms, section.handlers)
        handlers = [
            node("ValidationHandler", validator="@validate#evaluator", epoch_level=True, interval="@val_interval")
        ]
        if has_scheduler:
            by_epoch = bool(section.lr_policy and section.lr_policy.args.get("by_epoch"))
            scheduler = {"lr_scheduler": "@lr_scheduler", "print_lr": False, "epoch_level": by_epoch}
            handlers.append(node("LrScheduleHandler", **scheduler))
        handlers += [
            node("StatsHandler", tag_name="train_loss", output_transform=LOSS),
            node("TensorBoardStatsHandler", log_dir="@output_dir", tag_name="train_loss", output_transform=LOSS),
            self._make_saver(save_final=True, final_filename="model_final.pt"),
        ]
        return {
            "deterministic_transforms": transforms[:first],
            "random_transforms": transforms[first:],
            "preprocessing": node("Compose", transforms="$@train#deterministic_transforms + @train#random_transforms"),
            **self._make_data("train", section.image_pipeline, shuffle=True),
            "inferer": node("SimpleInferer"),
            "handlers": handlers,
            "trainer": node(
                "SupervisedTrainer",
                max_epochs="@epochs",
                device="@device",
                train_data_loader="@train#dataloader",
                network="@network",
                loss_function="@loss",
                optimizer="@optimizer",
                inferer="@train#inferer",
                train_handlers="@train#handlers",
                amp="@amp",
            ),
        }

    def _make_validation(self) -> dict[str, Any]:
        section = self.source.workflow.validate
        transforms = [
            *self._translate_all("transform", section.pre_transforms, fixed=True),
            *self._make_cropping(section.image_pipeline, section.pre_transforms),
        ]
        self._note_extras(section.batch_transforms, section.handlers)
        self._translate_all("transform", self._own_steps)
        metrics = self._make_metrics()
        key = next(iter(metrics), None)
        evaluator = node(
            "SupervisedEvaluator",
            device="@device",
            val_data_loader="@validate#dataloader",
            network="@network",
            inferer="@validate#inferer",
            postprocessing="@validate#postprocessing",
            key_val_metric="@validate#key_metric" if key else None,
            additional_metrics="@validate#additional_metrics" if len(metrics) > 1 else None,
            val_handlers="@validate#handlers",
            amp="@amp",
        )
        return {
            "preprocessing": node("Compose", transforms=[*transforms, self._make_typing()]),
            **self._make_data("validate", section.image_pipeline, shuffle=False),
            "inferer": self._translate_required("inferer", section.inferer),
            "postprocessing": node("Compose", transforms=self._make_postprocessing(with_label=True)),
            "handlers": [
                node("StatsHandler", iteration_log=False),
                node("TensorBoardStatsHandler", log_dir="@output_dir", iteration_log=False),
                self._make_saver(save_key_metric=True, key_metric_filename="model.pt"),
            ],
            **({"key_metric": {key: metrics[key]}} if key else {}),
            **({"additional_metrics": {n: m for n, m in metrics.items() if n != key}} if len(metrics) > 1 else {}),
            "evaluator": evaluator,
        }

    def _note_extras(self, batch_transforms: Iterable[Component], handlers: Iterable[Component]) -> None:
        """Note what has no place of its own in the bundle."""
        for component in batch_transforms:
            translation = translate("transform", component, self.facts)
            if translation.nodes:
                why = "transforms of whole batches have no place in MONAI's trainer"
                translation = Translation(verdict="not carried", why=why)
            self.report.add(component.where, component.name, translation.becomes, translation.verdict, translation.why)
        for component in handlers:
            if component.name == "StatsHandler":
                self.report.add(component.where, component.name, component.name, "exact")
                continue
            why = "the bundle has MONAI's handlers for checkpoints, curves and validation"
            self.report.add(component.where, component.name, "", "not carried", why)

    def _make_metrics(self) -> dict[str, Node]:
        """Every metric by name, the key metric first."""
        nodes: dict[str, Node] = {}
        metrics = self.source.workflow.validate.metrics
        ordered = sorted(metrics, key=lambda metric: not metric.args.get("is_key_metric", False))
        for metric in ordered:
            value = self._translate("metric", metric).value
            if value is not None:
                nodes[f"val_{metric.args.get('name', metric.args.get('tag', metric.name))}"] = value
        return nodes

    def _make_saver(self, **options: Any) -> Node:
        return node("CheckpointSaver", save_dir="@ckpt_dir", save_dict={"model": "@network"}, **options)

    def _make_typing(self) -> Node:
        if self.facts.task == "classification":
            return node("EnsureTyped", keys=["image", "label"], dtype="$torch.float32", track_meta=False)
        return node("EnsureTyped", keys=["image", "label"])

    def _make_cropping(self, pipeline: Component, transforms: Iterable[Component]) -> list[Node]:
        """The pipeline's own crop, where the section's transforms have not already made images of that size."""
        size = pipeline.args.get("output_crop_size")
        if not isinstance(size, list) or all(n == -1 for n in size):
            return []
        if any(transform.args.get(key) == size for transform in transforms for key in CROPS):
            return []
        keys = ["image", "label"] if self.facts.task == "segmentation" else ["image"]
        return [node("ResizeWithPadOrCropd", keys=keys, spatial_size=size)]

    def _make_data(self, section: str, pipeline: Component, *, shuffle: bool) -> dict[str, Node]:
        args, is_mask = pipeline.args, self.facts.task == "segmentation"
        datalist = (
            f"$monai.data.load_decathlon_datalist(@data_list_file_path, is_segmentation={is_mask}, "
            f"data_list_key='{args.get('data_list_key', 'training')}', base_dir=@dataset_dir)"
        )
        cached = "Cache" in pipeline.name
        dataset = node("CacheDataset" if cached else "Dataset", data=datalist, transform=f"@{section}#preprocessing")
        if cached:
            dataset |= {"cache_rate": 1.0, "num_workers": args.get("num_workers", 0)}
        size = args.get("output_crop_size") or [0]
        # Clara 4 states no size; its training learns from patches.
        is_open = -1 in size and not (shuffle and self.facts.patch is not None)
        batch = 1 if args.get("batched_by_transforms") or is_open else None
        loader = node(
            "DataLoader",
            dataset=f"@{section}#dataset",
            batch_size=batch or args.get("output_batch_size", 1),
            shuffle=shuffle,
            num_workers=args.get("num_workers", 0),
        )
        section_part = self.source.workflow.train if shuffle else self.source.workflow.validate
        crops = self._make_cropping(pipeline, section_part.pre_transforms)
        why = "an epoch's last batch may be smaller, where Voxflow fills it up" if shuffle else ""
        why = "; ".join(filter(None, (why, describe_centre_crop(size) if crops else "")))
        crop = self.source.workflow.validate.centre_crop
        if not shuffle and crop is not None:
            why = (
                f"whole volumes are judged, as in Voxflow; the file asks for a crop of {list(crop)} about their centre"
            )
        name = f"{dataset['_target_']}, DataLoader"
        self.report.add(pipeline.where, pipeline.name, name, "approximate" if why else "exact", why)
        return {"dataset": dataset, "dataloader": loader}

    def _make_postprocessing(self, *, with_label: bool, invert: str = "") -> list[Node]:
        """From logits to what metrics read (one channel a class) or, without a label, to a mask on the image's grid."""
        facts = self.facts
        transforms = [node("Activationsd", keys="pred", **{facts.activation: True})]
        if with_label and self._own_steps:
            return [item for step in self._own_steps for item in translate("transform", step, facts).nodes]
        if facts.task == "classification":
            return transforms
        if invert:
            inversion: dict[str, Any] = {"orig_keys": "image", "nearest_interp": False, "to_tensor": True}
            transforms.append(node("Invertd", keys="pred", transform=invert, **inversion))
        if facts.activation == "sigmoid":
            transforms.append(node("AsDiscreted", keys="pred", threshold=0.5))
        elif with_label:
            transforms.append(node("AsDiscreted", keys="pred", argmax=True, to_onehot=facts.classes))
            if not facts.one_hot:
                transforms.append(node("AsDiscreted", keys="label", to_onehot=facts.classes))
        else:
            transforms.append(node("AsDiscreted", keys="pred", argmax=True))
        return transforms

    @property
    def _own_steps(self) -> list[Component]:
        """What Clara 4's configuration itself makes of prediction and label before they are compared."""
        metrics = self.source.workflow.validate.metrics
        stated = [metric.args["post_transforms"] for metric in metrics if "post_transforms" in metric.args]
        return [
            Component(name=step["name"], args=step["args"], where=f"validate.post_transforms[{number}]")
            for number, step in enumerate(stated[0] if stated else [])
        ]

    def _make_inference(self) -> dict[str, Any]:
        """On images as they are: brought to the training's grid where the model knows it, and the answer back."""
        key = self._choose_inference_key()
        datalist = (
            f"$[{{'image': item['image']}} for item in monai.data.load_decathlon_datalist(@data_list_file_path, "
            f"is_segmentation=False, data_list_key='{key}', base_dir=@dataset_dir)]"
        )
        handlers = [node("StatsHandler", iteration_log=False)]
        post = self._make_postprocessing(with_label=False, invert="@preprocessing")
        if self.facts.task == "segmentation":
            saving = {"output_dir": "@output_dir", "output_postfix": "seg", "output_dtype": "$numpy.uint8"}
            post.append(node("SaveImaged", keys="pred", **saving))
        else:
            saving = {"output_dir": "@output_dir", "filename": "preds_outputs.csv", "batch_transform": FILES}
            scores = "$monai.handlers.from_engine(['pred'])"
            handlers.append(node("ClassificationSaver", **saving, output_transform=scores))
        self._note_outputs()
        evaluator = node(
            "SupervisedEvaluator",
            device="@device",
            val_data_loader="@dataloader",
            network="@network",
            inferer="@inferer",
            postprocessing="@postprocessing",
            val_handlers="@handlers",
            amp="$torch.cuda.is_available()" if self.source.workflow.globals.use_amp else False,
        )
        loader = node("CheckpointLoader", load_path="$@ckpt_dir + '/model.pt'", load_dict={"model": "@network"})
        return self._make_places() | {
            "imports": ["$import math", "$import numpy", "$import torch", "$import monai"],
            "datalist": datalist,
            "preprocessing": node("Compose", transforms=self._make_image_preprocessing()),
            "dataset": node("Dataset", data="@datalist", transform="@preprocessing"),
            "dataloader": node("DataLoader", dataset="@dataset", batch_size=1, shuffle=False, num_workers=0),
            "inferer": self._make_inferer(),
            "postprocessing": node("Compose", transforms=post),
            "handlers": handlers,
            "evaluator": evaluator,
            "checkpointloader": loader | {"map_location": "@device"},
            "initialize": ["$monai.utils.set_determinism(seed=0)", "$@checkpointloader(@evaluator)"],
            "run": ["$@evaluator.run()"],
        }

    def _choose_inference_key(self) -> str:
        if self.source.datalist is None:
            return str(self.source.variables.get("DATA_LIST_KEY", "validation"))
        datalist = read_json(self.source.datalist)
        configured = self.source.variables.get("DATA_LIST_KEY")
        keys = [key for key in (configured, *INFERENCE_KEYS) if key and datalist.get(key)]
        return keys[0] if keys else "validation"

    def _make_image_preprocessing(self) -> list[Node]:
        """The validation's transforms of the image, after the grid that the model was trained on."""
        spec = self.source.spec
        grid: list[Node] = []
        if spec is not None and spec.task == "segmentation":
            if spec.orientation:
                grid.append(node("Orientationd", keys="image", axcodes=spec.orientation))
            if spec.spacing_mm:
                grid.append(node("Spacingd", keys="image", pixdim=list(spec.spacing_mm), mode="bilinear"))
        transforms: list[Node] = []
        for component in self.source.workflow.validate.pre_transforms:
            nodes = translate("transform", component, self.facts).nodes
            for transform in filter(None, (_restrict_to_image(transform) for transform in nodes)):
                transforms.append(transform)
                if transform["_target_"] == "LoadImaged":
                    transforms += grid
                    grid = []
        return [*transforms, node("EnsureTyped", keys="image")]

    def _make_inferer(self) -> Any:
        configured = self.source.validation.get("inferer")
        component = self.source.workflow.validate.inferer
        if isinstance(configured, dict) and isinstance(configured.get("name"), str):
            args = configured.get("args") or {key: value for key, value in configured.items() if key != "name"}
            component = Component(name=configured["name"], args=args, where="inferer")
        translation = translate("inferer", component, self.facts)
        return translation.value or translate("inferer", self.source.workflow.validate.inferer, self.facts).value

    def _note_outputs(self) -> None:
        """Note what became of config_validation.json."""
        saved = "SaveImaged" if self.facts.task == "segmentation" else "ClassificationSaver"
        kinds = {
            "post_transforms": ("postprocessing", "one mask of class indices, from the likeliest class of each voxel"),
            "writers": (saved, "one file an image, NAME_seg.nii.gz, whatever the fields and folders of the writers"),
            "val_metrics": ("evaluate.json", "the metrics of the training's validation"),
        }
        if self.facts.task == "classification":
            kinds["post_transforms"] = ("postprocessing", "probabilities as they are")
            kinds["writers"] = (saved, "one table, preds_outputs.csv")
        for key, (becomes, why) in kinds.items():
            for number, component in enumerate(self.source.validation.get(key) or []):
                is_form = isinstance(component, dict)
                name = str(component.get("name", component.get("path", "")) if is_form else component)
                self.report.add(f"config_validation.{key}[{number}]", name, becomes, "approximate", why)
        if "model_loader" in self.source.validation:
            loader = self.source.validation["model_loader"]
            name = str(loader.get("name", "")) if isinstance(loader, dict) else str(loader)
            why = "the weights themselves are loaded, not an exported graph"
            verdict: Verdict = "exact" if name == "CheckpointLoader" else "approximate"
            self.report.add("config_validation.model_loader", name, "CheckpointLoader", verdict, why)

    def _make_evaluate(self) -> dict[str, Any]:
        """What stands over train.json when the trained model is judged."""
        loader = node("CheckpointLoader", load_path="$@ckpt_dir + '/model.pt'", load_dict={"model": "@network"})
        names = [*self.train["validate"].get("key_metric", {}), *self.train["validate"].get("additional_metrics", {})]
        saving = {"save_dir": "@output_dir", "metrics": names or "*", "metric_details": "*", "batch_transform": FILES}
        handlers = [
            loader | {"map_location": "@device"},
            node("StatsHandler", iteration_log=False),
            node("MetricsSaver", **saving, summary_ops="*"),
        ]
        return {"validate#handlers": handlers, "run": ["$@validate#evaluator.run()"]}


def _restrict_to_image(transform: Node) -> Node | None:
    """The same transform of the image alone; None where it changes only the label."""
    keys = transform.get("keys", [])
    names = [keys] if isinstance(keys, str) else list(keys)
    if "image" not in names:
        return None
    index = names.index("image")
    changed = {key: value for key, value in transform.items() if key != "keys"}
    if isinstance(transform.get("mode"), list) and len(transform["mode"]) == len(names):
        changed["mode"] = transform["mode"][index]
    return changed | {"keys": "image"}
