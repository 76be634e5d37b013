"""A user's own classes: where they may come from, what they are told, and a training made of nothing else."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from voxflow.components import Chain, Component, build_network, build_transform, create
from voxflow.components.custom.code import digest_custom_code, find_custom_faults, locate_class
from voxflow.components.sources import MODULES
from voxflow.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from voxflow.components.registry import Kind

    Writer = Callable[[str, str], Path]


@pytest.fixture
def custom(tmp_path: Path) -> Path:
    folder = tmp_path / "mmar" / "custom"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def write(custom: Path) -> Writer:
    def write_file(name: str, text: str) -> Path:
        path = custom / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write_file


def custom_component(custom: Path, path: str, **args: Any) -> Component:
    return Component(name=path.rpartition(".")[2], path=path, custom=custom, args=args)


def faults_of(custom: Path, path: str, kind: Kind = "transform", **args: Any) -> str:
    return "\n".join(
        f"{fault.where}: {fault.text}" for fault in find_custom_faults(custom_component(custom, path, **args), kind)
    )


SHIFT = "class Shift:\n    def __init__(self, by=1.0):\n        self.by = by\n    def __call__(self, sample):\n"
SHIFT += "        sample['image'] += self.by\n        return sample\n"


@pytest.mark.parametrize("path", ["custom.steps.Shift", "steps.Shift", "custom.deep.steps.Shift", "deep.steps.Shift"])
def test_a_class_is_found_with_and_without_the_folder_s_name(custom: Path, write: Writer, path: str) -> None:
    write("steps.py", SHIFT)
    write("deep/steps.py", SHIFT)
    image = np.zeros((1, 2, 2), np.float32)
    result = build_transform(custom_component(custom, path, by=3.0))({"image": image})
    assert result["image"].tolist() == [[[3, 3], [3, 3]]]
    assert image.max() == 0, "what comes in stays as it is"


@pytest.mark.parametrize(
    ("path", "rule"),
    [
        ("steps", "expected MODULE.CLASS"),
        ("../outside.Shift", "expected MODULE.CLASS"),
        ("custom...outside.Shift", "expected MODULE.CLASS"),
        ("/etc/outside.Shift", "expected MODULE.CLASS"),
        ("outside.Shift", "no file custom/outside.py"),
        ("monai.networks.nets.UNet", "no file custom/monai/networks/nets.py .*'monai' is an installed package"),
        ("linked.Shift", "leads outside the workspace's custom/ folder"),
        ("folder.outside.Shift", "leads outside the workspace's custom/ folder"),
        ("steps.Shfit", "defines no class 'Shfit'; did you mean 'Shift'"),
        ("borrowed.UNet", "defines no class 'UNet'"),
        ("broken.Shift", "line 2.*: no valid Python"),
    ],
)
def test_a_class_from_anywhere_else_is_refused_in_one_line(custom: Path, write: Writer, path: str, rule: str) -> None:
    write("steps.py", SHIFT)
    write("borrowed.py", "from monai.networks.nets import UNet\n")
    write("broken.py", "class Shift:\n    def\n")
    (custom.parent / "outside.py").write_text(SHIFT)
    (custom / "linked.py").symlink_to(custom.parent / "outside.py")
    (custom / "folder").symlink_to(custom.parent, target_is_directory=True)
    with pytest.raises(ConfigError, match=rule) as caught:
        create("transform", custom_component(custom, path))
    assert "\n" not in str(caught.value)


def test_a_custom_folder_that_is_itself_a_link_to_elsewhere_is_refused(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "steps.py").write_text(SHIFT)
    (tmp_path / "mmar").mkdir()
    (tmp_path / "mmar" / "custom").symlink_to(elsewhere, target_is_directory=True)
    with pytest.raises(ConfigError, match="leads outside"):
        locate_class("steps.Shift", tmp_path / "mmar" / "custom")


def test_a_class_without_a_workspace_is_refused() -> None:
    with pytest.raises(ConfigError, match="from inside that"):
        build_transform(Component(name="Shift", path="steps.Shift"))


def test_checking_runs_no_code_of_the_user(custom: Path, write: Writer) -> None:
    write("steps.py", f"open({str(custom / 'ran')!r}, 'w').close()\n{SHIFT}")
    assert faults_of(custom, "steps.Shift", by=2) == ""
    assert not (custom / "ran").exists()
    build_transform(custom_component(custom, "steps.Shift"))
    assert (custom / "ran").exists()


def test_arguments_are_held_against_the_constructor(custom: Path, write: Writer) -> None:
    write("steps.py", "class Shift:\n    def __init__(self, amount, *, field='image'):\n        pass\n")
    report = faults_of(custom, "steps.Shift", amout=1)
    assert ".args.amout: Shift takes no argument 'amout'; did you mean 'amount'?" in report
    assert ".args: Shift needs the argument 'amount'" in report


def test_code_written_for_tensorflow_is_named_as_such(custom: Path, write: Writer) -> None:
    write("steps.py", f"import tensorflow as tf\nfrom ai4med.common import constants\n{SHIFT}")
    assert "steps.py imports ai4med, tensorflow, which runs in NVIDIA's container only" in faults_of(
        custom, "steps.Shift"
    )


def test_a_kind_that_can_t_be_custom_says_so(custom: Path, write: Writer) -> None:
    write("steps.py", SHIFT)
    assert "a pipeline can't be of your own" in faults_of(custom, "steps.Shift", "pipeline")


@pytest.mark.parametrize("statement", ["from .ways import by", "from custom.ways import by", "from ways import by"])
def test_modules_of_the_folder_find_each_other_and_leave_no_names_behind(
    custom: Path, write: Writer, statement: str
) -> None:
    write("ways.py", "def by():\n    return 5\n")
    write(
        "steps.py",
        f"{statement}\n{SHIFT.replace('self.by = by', 'self.by = by_()')}".replace("import by", "import by as by_"),
    )
    assert build_transform(custom_component(custom, "steps.Shift"))({"image": np.zeros(1)})["image"] == [5]
    assert not {"custom", "custom.ways", "ways"} & sys.modules.keys()


def test_two_workspaces_with_classes_of_one_name_don_t_meet(tmp_path: Path) -> None:
    results = []
    for by in ("1.0", "2.0"):
        folder = tmp_path / by / "custom"
        folder.mkdir(parents=True)
        (folder / "steps.py").write_text(SHIFT.replace("by=1.0", f"by={by}"))
        results.append(build_transform(custom_component(folder, "steps.Shift"))({"image": np.zeros(1)})["image"][0])
    assert results == [1, 2]


RANDOM = {
    "takes rng": "class Noise:\n    def __call__(self, sample, rng):\n"
    "        return {**sample, 'image': sample['image'] + rng.normal()}\n",
    "monai": "from monai.transforms import MapTransform, Randomizable\n"
    "class Noise(Randomizable):\n    def __call__(self, sample):\n"
    "        return {**sample, 'image': sample['image'] + self.R.normal()}\n",
}


@pytest.mark.parametrize("text", RANDOM.values(), ids=RANDOM)
def test_a_custom_random_transform_runs_each_time_and_repeats_for_a_seed(
    custom: Path, write: Writer, text: str
) -> None:
    write("noise.py", text)
    chain = Chain.build([custom_component(custom, "noise.Noise")])
    assert (len(chain.head), len(chain.tail)) == (0, 1)
    values = [chain.run_tail({"image": np.zeros(1)}, np.random.default_rng(seed))[0]["image"][0] for seed in (1, 2, 1)]
    assert values[0] == values[2] != values[1]


def test_a_transform_that_names_chance_is_not_kept_unless_it_says_so(custom: Path, write: Writer) -> None:
    body = (
        "    def __call__(self, sample):\n        import numpy as np\n        np.random.rand()\n        return sample\n"
    )
    write("noise.py", f"class Noise:\n{body}class Steady:\n    random = False\n{body}")
    assert Chain.build([custom_component(custom, "noise.Noise")]).tail
    assert Chain.build([custom_component(custom, "noise.Steady")]).head


def test_what_a_class_raises_names_its_line(custom: Path, write: Writer) -> None:
    file = write("steps.py", "class Fail:\n    def __call__(self, sample):\n        return sample['nothing']\n")
    with pytest.raises(ConfigError, match=r"steps.py, line 3: steps.Fail failed: KeyError: 'nothing'"):
        build_transform(custom_component(custom, "steps.Fail"))({"image": 1})
    file.write_text("class Fail:\n    def __call__(self, sample):\n        pass\n")


def test_an_answer_of_the_wrong_kind_is_named(custom: Path, write: Writer) -> None:
    write("steps.py", "class Silent:\n    def __call__(self, sample):\n        pass\n\nclass NoNet:\n    pass\n")
    with pytest.raises(ConfigError, match=r"steps.Silent gave a NoneType, expected the sample"):
        build_transform(custom_component(custom, "steps.Silent"))({"image": 1})
    with pytest.raises(ConfigError, match=r"steps.NoNet gave a NoNet, expected a torch.nn.Module"):
        build_network(custom_component(custom, "steps.NoNet"))
    with pytest.raises(ConfigError, match=r"steps.NoNet gave a NoNet, expected a metric with update\(\)"):
        create("metric", custom_component(custom, "steps.NoNet", name="m")).measure({})


def test_a_network_says_its_divisor_and_gets_only_the_counts_it_names(custom: Path, write: Writer) -> None:
    write(
        "nets.py",
        "import torch\nclass Net(torch.nn.Module):\n    divisor = 8\n"
        "    def __init__(self, out_channels, width=2):\n        super().__init__()\n"
        "        self.layer = torch.nn.Conv3d(1, out_channels, width)\n",
    )
    network = create("network", custom_component(custom, "nets.Net", num_classes=3, width=1))
    assert (network.divisor, network.component_name(), network.final_activation) == (8, "Net", "softmax")
    assert network.build().layer.weight.shape == (3, 1, 1, 1, 1)


def test_a_custom_metric_agrees_with_monai_s(custom: Path, write: Writer) -> None:
    from monai.metrics import DiceMetric

    write(
        "measures.py",
        "from monai.metrics import DiceMetric\n"
        "class Overlap(DiceMetric):\n    def __call__(self, y_pred, y):\n"
        "        return super().__call__((y_pred > 0).float(), y)\n"
        "class Voxels:\n    def __init__(self):\n        self.count = 0\n"
        "    def update(self, prediction, label):\n        self.count += int(label.sum())\n"
        "    def compute(self):\n        return self.count\n",
    )
    import torch

    rng = np.random.default_rng(0)
    batches = [(rng.normal(size=(2, 1, 4, 4, 4)), rng.integers(0, 2, (2, 1, 4, 4, 4))) for _ in range(3)]
    theirs = DiceMetric()
    for logits, label in batches:
        theirs(torch.as_tensor(logits > 0).float(), torch.as_tensor(label))
    metric = create("metric", custom_component(custom, "measures.Overlap", name="overlap", is_key_metric=True))
    count = create("metric", custom_component(custom, "measures.Voxels", name="voxels"))
    for _ in range(2):  # the second validation begins anew
        measured = [metric.measure({"model": logits, "label": label}) for logits, label in batches]
        counted = [count.measure({"model": logits, "label": label}) for logits, label in batches]
        numbers = metric.summarise(measured, ("background", "organ"))
        assert numbers["overlap"] == pytest.approx(float(theirs.aggregate()))
        assert count.summarise(counted, ()) == {"voxels": sum(int(label.sum()) for _, label in batches)}
    assert metric.is_key_metric


def test_processes_that_share_the_cases_get_the_number_of_one(
    custom: Path, write: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(
        "measures.py",
        "from monai.metrics import DiceMetric, ROCAUCMetric\nclass Overlap(DiceMetric):\n    pass\n"
        "class Area(ROCAUCMetric):\n    pass\n"
        "class Voxels:\n    def __init__(self):\n        self.count = 0\n"
        "    def update(self, prediction, label):\n        self.count = self.count * 2 + int(label.sum())\n"
        "    def compute(self):\n        return self.count\n",
    )
    rng = np.random.default_rng(1)
    volumes = [rng.integers(0, 2, (2, 2, 1, 4, 4, 4)) for _ in range(4)]
    findings = [np.stack([rng.normal(size=(3, 2)), rng.integers(0, 2, (3, 2))]) for _ in range(4)]
    for name, batches in (("Overlap", volumes), ("Voxels", volumes), ("Area", findings)):
        outputs = [{"model": guess.astype(float), "label": truth} for guess, truth in batches]
        alone, first, second = (
            create("metric", custom_component(custom, f"measures.{name}", name="m")) for _ in range(3)
        )
        expected = alone.summarise([alone.measure(value) for value in outputs], ())
        monkeypatch.setattr("voxflow.components.custom.metrics._is_shared", lambda: True)
        measured = [metric.measure(value) for metric, value in zip((first, second) * 2, outputs, strict=True)]
        assert first.summarise(measured, ()) == second.summarise(measured, ()) == expected
        monkeypatch.undo()


def test_custom_optimizer_policy_operation_and_inferer_are_used(custom: Path, write: Writer) -> None:
    import torch

    write(
        "parts.py",
        "import torch\n"
        "class Plain(torch.optim.SGD):\n    def __init__(self, params, lr, momentum=0.0):\n"
        "        super().__init__(params, lr=lr, momentum=momentum)\n"
        "class Halve:\n    def __call__(self, step, total):\n        return 0.5 ** step\n"
        "class Largest:\n    def __call__(self, outputs):\n        return {'largest': outputs['model'].max(1)}\n"
        "class Twice:\n    def __call__(self, inputs, network):\n        return 2 * network(inputs)\n",
    )
    weight = torch.nn.Parameter(torch.ones(1))
    optimizer = create("optimizer", custom_component(custom, "parts.Plain", momentum=0.5)).build([weight], 0.1, 0.0)
    assert (optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["momentum"]) == (0.1, 0.5)
    assert create("lr_policy", custom_component(custom, "parts.Halve")).factor(2, 9) == 0.25
    added = create("aux_op", custom_component(custom, "parts.Largest")).compute({"model": np.array([[1, 5]])})
    assert added["largest"].tolist() == [5]
    assert create("inferer", custom_component(custom, "parts.Twice")).infer(
        torch.nn.Identity(), torch.ones(2)
    ).tolist() == [2, 2]


def test_a_loss_must_be_one_number(custom: Path, write: Writer) -> None:
    import torch

    write(
        "losses.py",
        "class Mean:\n    def __init__(self, activation):\n        self.activation = activation\n"
        "    def __call__(self, logits, label):\n        return (logits - label).abs().mean()\n"
        "class Map:\n    def __call__(self, logits, label):\n        return logits\n",
    )
    loss = create("loss", custom_component(custom, "losses.Mean")).build("softmax")
    assert float(loss(torch.ones(4), torch.zeros(4))) == 1
    with pytest.raises(ConfigError, match=r"losses.Map gave a Tensor, expected a tensor of one number"):
        create("loss", custom_component(custom, "losses.Map")).build("softmax")(torch.ones(4), torch.zeros(4))


def test_the_digest_follows_every_file_of_the_folder(custom: Path, write: Writer) -> None:
    write("a.py", "x = 1\n")
    first = digest_custom_code(custom)
    write("b.py", "y = 1\n")
    assert digest_custom_code(custom) != first


def test_the_module_itself_imports_no_torch() -> None:
    modules = [module for modules in MODULES["custom"].values() for module in modules]
    code = f"import sys, voxflow.components.catalogue, {', '.join(modules)}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
