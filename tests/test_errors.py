"""The exception tree: its public names, its exit codes, its one line."""

from __future__ import annotations

import inspect
import pickle
from pathlib import Path

from voxflow import errors
from voxflow.datalist.model import FaultyDatalistError
from voxflow.errors import ConfigError, DataError, DicomError, InputError, VoxflowError
from voxflow.findings import FaultyConfigError, Finding

TREE = {
    "VoxflowError": ("Exception", 1),
    "InputError": ("VoxflowError", 2),
    "ConfigError": ("InputError", 2),
    "DataError": ("InputError", 2),
    "DicomError": ("InputError", 2),
    "MissingDependencyError": ("VoxflowError", 2),
    "ClusterError": ("VoxflowError", 1),
    "TrainingError": ("VoxflowError", 1),
    "PacsError": ("VoxflowError", 1),
    "ParityError": ("VoxflowError", 1),
    "QualityError": ("VoxflowError", 1),
}


def test_the_tree_is_as_it_is_drawn() -> None:
    tree = {
        name: (error.__bases__[0].__name__, error.exit_code)
        for name, error in inspect.getmembers(errors, inspect.isclass)
        if issubclass(error, VoxflowError)
    }
    assert tree == TREE
    assert errors.__doc__ is not None
    assert all(name in errors.__doc__ for name in TREE)


def test_exit_codes_are_fixed() -> None:
    codes = {name: value for name, value in vars(errors).items() if name.startswith("EXIT_")}
    assert codes == {
        "EXIT_OK": 0,
        "EXIT_FAILURE": 1,
        "EXIT_WRONG_INPUT": 2,
        "EXIT_SOME_FAILED": 3,
        "EXIT_ALERT": 4,
        "EXIT_INTERRUPTED": 130,
    }


def test_an_input_error_says_file_place_and_fault() -> None:
    error = DataError("expected 3, received 4", path=Path("a.json"), where="training[3].label")
    assert str(error) == "a.json: training[3].label: expected 3, received 4"
    assert (error.message, error.path, error.where) == ("expected 3, received 4", Path("a.json"), "training[3].label")
    assert str(InputError("no place")) == "no place"
    assert str(DicomError("missing", where="(0020,0037)")) == "(0020,0037): missing"


def test_a_config_error_lists_every_finding() -> None:
    error = ConfigError("2 faults", path="c.json", findings=["one", "two"])
    assert str(error) == "c.json: 2 faults\none\ntwo"
    assert error.findings == ("one", "two")


def test_errors_with_findings_come_whole_out_of_a_process() -> None:
    fault = Finding("own-class", "error", Path("custom/losses.py"), "", "the file defines no class 'Dise'")
    for error in (FaultyConfigError.of(fault), FaultyDatalistError("2 faults", path=fault.file, faults=[fault])):
        copy = pickle.loads(pickle.dumps(error))  # noqa: S301
        assert (type(copy), str(copy), copy.path, copy.faults) == (type(error), str(error), fault.file, (fault,))
