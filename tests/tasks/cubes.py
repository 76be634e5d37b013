"""A workspace whose stages up to split have run: four noisy volumes with a bright cube each, learnt in seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.training.conftest import volume_config, write_cube
from voxflow.files import write_json

if TYPE_CHECKING:
    from pathlib import Path


def write_cubes(root: Path, name: str = "cubes", *, first_seed: int = 0) -> dict[str, Any]:
    """Write images, datalist and configuration below a repository's root.

    Returns:
        The workspace's block of params.yaml.
    """
    resampled = root / "data/resampled" / name
    resampled.mkdir(parents=True)
    cases = [write_cube(resampled, f"cube{n}", first_seed + n) for n in range(4)]
    entries = [{"image": c.image[0].name, "label": f"{c.id}_label.nii.gz", "case": c.id} for c in cases]
    datalist = {"modality": {"0": "CT"}, "training": entries[:3], "validation": entries[3:]}
    write_json(root / f"data/datalists/{name}/dataset_0.json", datalist)
    write_json(resampled / "labels.json", {"0": "background", "1": "cube"})
    config = volume_config()
    for section in ("train", "validate"):
        places = {"data_list_file_path": "{DATASET_JSON}", "data_file_base_dir": "{DATA_ROOT}"}
        config[section]["image_pipeline"]["args"] |= places
    write_json(root / f"mmars/{name}/config/config_train.json", config)
    options: dict[str, Any] = {"threads": 1, "workers": 0, "set": {"epochs": 2}}
    return {"task": "segmentation", "source": "x", "resample": {"spacing_mm": [1, 1, 2]}, "train": options}
