"""Networks that are a program of another tool, TorchScript or ONNX, which stands whole among their weights."""

from __future__ import annotations

import io
import warnings
from abc import ABC, abstractmethod
from typing import Any

import torch

PROGRAM = "_extra_state"  # torch's name for it in a state_dict
ONNX_INPUT, ONNX_OUTPUT = "image", "logits"


class ProgramNetwork(torch.nn.Module, ABC):
    """What the two kinds share: the program's bytes are its only weight."""

    def __init__(self) -> None:
        super().__init__()
        self.program = b""

    def get_extra_state(self) -> torch.Tensor:
        """The program's bytes, for a state_dict."""
        return torch.frombuffer(bytearray(self.program), dtype=torch.uint8)

    def set_extra_state(self, state: torch.Tensor) -> None:
        """Take the program from a state_dict."""
        self.load_program(state.numpy().tobytes())

    @abstractmethod
    def load_program(self, program: bytes) -> None:
        """Take a program."""

    @abstractmethod
    def list_operators(self) -> list[str]:
        """The names of its operators."""


class ScriptedNetwork(ProgramNetwork):
    """Runs a TorchScript file."""

    def __init__(self) -> None:
        super().__init__()
        self.network: Any = torch.nn.Identity()
        # Its weights stand in the program already.
        self.register_state_dict_post_hook(_drop_weights)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_post_hook(_forget_weights)  # type: ignore[no-untyped-call]

    def load_program(self, program: bytes) -> None:
        """Take the bytes of a TorchScript file."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"`torch\.jit\.\w+` is deprecated", DeprecationWarning)
            network = torch.jit.load(io.BytesIO(program), map_location="cpu")  # type: ignore[no-untyped-call]
        self.program, self.network = program, network.eval()

    def list_operators(self) -> list[str]:
        """The program's code, in which the names of its operators stand."""
        return [str(self.network.inlined_graph)]

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Map (batch, channel, i, j, k) to logits (batch, class, i, j, k)."""
        return self.network(image)  # type: ignore[no-any-return]


class OnnxNetwork(ProgramNetwork):
    """Runs an ONNX file on the processor, one image of a batch after the other."""

    def __init__(self) -> None:
        super().__init__()
        self._session: Any = None

    def load_program(self, program: bytes) -> None:
        """Take the bytes of an ONNX file with the input ``image`` and the output ``logits``."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        self._session = onnxruntime.InferenceSession(program, options, providers=["CPUExecutionProvider"])
        self.program = program

    def list_operators(self) -> list[str]:
        """The types of its nodes."""
        import onnx

        return sorted({node.op_type for node in onnx.load_from_string(self.program).graph.node})

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Map (batch, channel, i, j, k) to logits (batch, class, i, j, k)."""
        arrays = image.detach().float().cpu().contiguous().chunk(len(image))
        answers = [self._session.run([ONNX_OUTPUT], {ONNX_INPUT: array.numpy()})[0] for array in arrays]
        return torch.cat([torch.from_numpy(answer) for answer in answers]).to(image.device)

    def __deepcopy__(self, memo: dict[int, Any]) -> OnnxNetwork:
        copied = OnnxNetwork()
        copied.load_program(self.program)
        return copied.train(self.training)


def _drop_weights(_module: Any, state: dict[str, Any], prefix: str, _metadata: Any) -> None:
    for name in [name for name in state if name.startswith(f"{prefix}network.")]:
        del state[name]


def _forget_weights(_module: Any, incompatible: Any) -> None:
    missing = [name for name in incompatible.missing_keys if name.endswith(PROGRAM)]
    incompatible.missing_keys[:] = missing
