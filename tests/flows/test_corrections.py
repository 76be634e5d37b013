"""The flow of corrections starts a training when enough corrected labels are there, once, and again if it failed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from prefect.states import Completed, Failed

import flows.corrections
from tasks.common.stage import Stage
from tasks.ops import answer, corrections, ingest
from tests.corrections.clinic import edit
from tests.dicom.objects import Series, random_values, save
from tests.inference.models import save_unet
from voxflow.errors import EXIT_OK

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State

WORKSPACE = "clinic_ct"
BLOCK: dict[str, Any] = {
    "task": "segmentation",
    "source": "data/raw",
    "ingest": {"folder": "drop", "modalities": ["CT"], "settle_s": 0, "empty_folder": True},
    "corrections": {"retrain_after": 3},
    "convert": {"modalities": ["CT"], "pseudonym_key": "synthetic"},
    "infer": {"engine": "torch", "overlays": 0},
}


class Errands:
    """Runs the program in this process, without Prefect's server."""

    def with_options(self, **_: Any) -> Errands:
        return self

    def __call__(self, _name: str, module: str, arguments: list[str], *, return_state: bool) -> State[object]:
        assert (module, return_state) == ("tasks.ops.corrections", True)
        stage = Stage(WORKSPACE, "corrections", BLOCK)
        code = corrections.mark_trained(stage, arguments[2:]) if arguments[1:] else corrections.run(stage)
        assert code == EXIT_OK
        return Completed(message="")


@pytest.fixture
def trainings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[State[object]]:
    """The states of the trainings to come; each one that starts takes the first."""
    monkeypatch.chdir(tmp_path)
    states: list[State[object]] = []
    monkeypatch.setattr(flows.corrections, "run_errand", Errands())
    monkeypatch.setattr(flows.corrections, "write_index", lambda: None)
    monkeypatch.setattr(flows.corrections, "retrain", lambda _, return_state: states.pop(0))
    (tmp_path / "data/raw").mkdir(parents=True)
    (tmp_path / "drop").mkdir()
    Path("params.yaml").write_text(yaml.safe_dump({"workspaces": {WORKSPACE: BLOCK}}))
    save_unet(tmp_path / "mmars" / WORKSPACE / "models/export/model.pt")
    for number in (1, 2, 3):
        uid = f"1.2.840.99.{number}"
        values, changes = random_values((6, 24, 20), number), {"StudyInstanceUID": uid}
        Series(values, uid=f"{uid}.1", patient=f"patient {number}", changes=changes).write(tmp_path / f"drop/{number}")
    assert ingest.run(Stage(WORKSPACE, "ingest", BLOCK)) == EXIT_OK
    assert answer.run(Stage(WORKSPACE, "answer", BLOCK)) == EXIT_OK
    return states


def run_flow() -> State[object]:
    state: State[object] = flows.corrections.corrections.fn(WORKSPACE)
    return state


def drop_correction(mask: Path, number: int) -> None:
    def change(frames: Any, _: list[int]) -> None:
        frames[:, :3, :3] = 1 - frames[:, :3, :3]

    save(edit(mask, change), Path(f"drop/correction-{number}.dcm"))


def test_the_third_correction_starts_one_training(trainings: list[State[object]]) -> None:
    masks = sorted(Path("data/answers").glob("*/*/*/*_seg.dcm"))
    assert len(masks) == 3
    for number in (0, 1):
        drop_correction(masks[number], number)
    assert run_flow().is_completed(), "two are not enough: a training would find no state to take"
    drop_correction(masks[2], 2)
    trainings += [Failed(message="no memory", data=RuntimeError("no memory")), Completed(message="champion")]
    assert run_flow().is_failed()
    state = json.loads(Path(f"data/corrections/{WORKSPACE}/state.json").read_text())
    assert (state["retrain"], len(state["due"])) == (True, 3)
    assert run_flow().message == "retrained with 3 corrected labels: champion"
    assert not trainings, "one training failed, and one more started"
    assert run_flow().is_completed(), "nothing is due any more"
