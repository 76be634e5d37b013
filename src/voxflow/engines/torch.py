"""The engine torch: model.pt as the training wrote it, in half precision or compiled where asked to.

It is the reference that every exported file is compared with, so on a GPU it computes in float32 without TF32.
"""

from __future__ import annotations

import copy
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast

import numpy as np
from typing_extensions import override

from voxflow.components import list_first_stages
from voxflow.engines.files import cache_folder, is_local
from voxflow.engines.first_use import FirstUseEngine, Limits, explain_record, name_record
from voxflow.engines.protocol import Engine, EngineKind
from voxflow.machine import find_gpu, has_gpu, read_gpu_driver, read_gpu_name
from voxflow.progress import say

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    import torch
    from numpy.typing import NDArray

    from voxflow.spec import ModelSpec

# Tighter than what a person may ask for, since nobody asked for half precision.
HALF_LIMITS = Limits(max_abs_difference=None, min_dice=0.999)
# The same sums in another order.
EXACT_LIMITS = Limits(max_abs_difference=1e-3, min_dice=0.999)
E = TypeVar("E", bound=Any)

BFLOAT16, HALF, COMPILED = "torch-bf16", "torch-fp16", "torch-compiled"
# Windows that keep a GPU busy at a time. On a processor torch leaves a single small window of few channels to a
# convolution of its own, several times as slow as oneDNN's, which it takes as soon as there are two.
GPU_BATCH, CPU_BATCH = 4, 2


class TorchKind(EngineKind):
    """Runs a checkpoint; nothing is exported for it."""

    name: ClassVar[str] = "torch"
    title: ClassVar[str] = "torch"
    file: ClassVar[str] = "model.pt"
    package: ClassVar[str] = "torch"
    variants: ClassVar[tuple[str, ...]] = (BFLOAT16, HALF, COMPILED)

    @override
    def uses_gpu(self) -> bool:
        return has_gpu()

    @override
    def open(self, file: Path, variant: str | None = None) -> Engine:
        engine = TorchEngine(file)
        return _take_variants(engine, file, (variant,)) if variant else engine

    @override
    def open_fastest(self, file: Path) -> Engine:
        engine = TorchEngine(file)
        # Compiling takes each process longer than it saves on a few cases, so that it is done on request.
        return _take_variants(engine, file, list_half_precisions(engine, HALF, BFLOAT16))


class TorchEngine(Engine):
    """Runs model.pt on the GPU where there is one, else on the processor.

    Attributes:
        module: the network, in evaluation mode, on ``device``.
        device: such as "cuda", "cuda:1" or "cpu".
        variant: "torch-fp16", "torch-bf16" or "torch-compiled", which on a GPU computes in half precision, too; None:
            float32.
    """

    name = TorchKind.name
    variant: str | None = None

    def __init__(self, path: Path) -> None:
        from voxflow.training import load_model

        self._hold(*load_model(path))

    @classmethod
    def wrap(cls, module: torch.nn.Module, spec: ModelSpec) -> TorchEngine:
        """Run a network that is loaded already.

        Args:
            module: the network.
            spec: what it takes and means.
        """
        engine = cls.__new__(cls)
        engine._hold(module, spec)
        return engine

    def _hold(self, module: torch.nn.Module, spec: ModelSpec) -> None:
        self.spec = spec
        if spec.previous is not None:
            stages = cast("Any", module)
            self.previous = tuple(TorchEngine.wrap(first, spec.previous.spec) for first in list_first_stages(stages))
            module = stages.last
        if spec.parts:
            networks = zip(cast("Any", module).parts, spec.parts, strict=True)
            self.parts = tuple(TorchEngine.wrap(network, part.spec) for network, part in networks)
        self.is_local = not spec.keeps_window and is_local(type(part).__name__ for part in module.modules())
        self.module, self.device = place_module(module)
        self.batch = choose_batch(self.device)
        self._compiled = CompiledModule(self.module)

    @override
    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        return run_on_arrays(self, batch)

    @override
    def on_processor(self) -> TorchEngine:
        return copy_to_processor(self)

    @override
    def run_tensor(self, batch: torch.Tensor) -> torch.Tensor:
        from torch._dynamo.exc import TorchDynamoException

        if self.variant == COMPILED:
            try:
                with compute_in_half(str(self.device), HALF if is_gpu(self.device) else None):
                    return run_module(self._compiled, batch)
            except TorchDynamoException as error:
                reason = next(line for line in str(error).splitlines() if line.strip())
            self.name, self.variant = TorchKind.name, None
            say(f"{COMPILED} is not used, {self.name} answers: the network can't be compiled here: {reason}")
        with compute_in_half(str(self.device), self.variant):
            return run_module(self.module, batch)


class CompiledModule:
    """A module that torch compiles when it first runs, once for each size of window.

    Code for all sizes at once is what torch 2.13 fails to make of a U-Net. The last windows of an image are fewer than
    the others: they are filled up to as many, since another number of windows would be compiled again.

    Args:
        module: the network.
    """

    def __init__(self, module: Any) -> None:
        self._module = module
        self._compiled: Any = None
        self._batches: dict[tuple[int, ...], int] = {}

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        """Map an input (batch, channel, *space) to logits."""
        import torch

        if self._compiled is None:
            self._compiled = torch.compile(self._module, dynamic=False)
        shape, count = tuple(batch.shape[1:]), len(batch)
        most = self._batches[shape] = max(count, self._batches.get(shape, 0))
        if count < most:
            batch = torch.cat([batch, batch.new_zeros((most - count, *shape))])
        logits: torch.Tensor = self._compiled(batch)
        return logits[:count]


def _take_variants(engine: TorchEngine, file: Path, names: Sequence[str]) -> Engine:
    """Let an engine run in another way; of a joined model each part by itself, see :func:`take_variant`."""
    if not engine.parts:
        return take_variant(engine, file, names)
    engine.parts = tuple(take_variant(part, file, names, str(number)) for number, part in enumerate(engine.parts))
    engine.name = engine.parts[0].name
    return engine


def take_variant(engine: Any, file: Path, names: Sequence[str], part: str = "") -> Engine:
    """Let an engine of torch's run in another way, where that was compared with float32 on this device.

    The comparison is made at the first use, on windows of a real image. On a processor, half precision runs only where
    it was asked for, and is not compared.

    Args:
        engine: in float32.
        file: the model's.
        names: of the variants, in the order in which they are tried.
        part: which network of the file it is, where there are several.

    Returns:
        The first variant that has passed or is still to be compared; else the engine itself.
    """
    for name in names:
        variant = copy.copy(engine)
        variant.name = variant.variant = name
        on_gpu = is_gpu(engine.device)
        if not on_gpu and name != COMPILED:
            # Its name stays that of what was asked to run so, as masks that are there were noted with it.
            variant.name = engine.name
            return cast("Engine", variant)
        place = read_torch_place(engine.device) | {"precision": name} | ({"part": part} if part else {})
        record = name_record(cache_folder(), file, place)
        fault = explain_record(record, place)
        if fault == "":
            limits = HALF_LIMITS if on_gpu else EXACT_LIMITS
            return FirstUseEngine(variant, lambda: engine, limits=limits, record=record, place=place)
        if fault is None:
            return cast("Engine", variant)
    return cast("Engine", engine)


def list_half_precisions(engine: Any, half: str, bfloat16: str) -> tuple[str, ...]:
    """List the variants in half precision that are worth a trial where an engine runs: none on a processor.

    Args:
        engine: with a ``device``.
        half: the name of the variant in float16.
        bfloat16: of the one in bfloat16, which keeps float32's range: for networks whose values float16 can't hold.
    """
    if not is_gpu(engine.device):
        return ()
    import torch

    return (half, bfloat16) if torch.cuda.is_bf16_supported(including_emulation=False) else (half,)


def read_torch_place(device: str) -> dict[str, str]:
    """Read what a comparison of torch's own engines holds for: its version, the device and its driver."""
    import torch

    place = {"torch": str(torch.__version__)}
    if not is_gpu(device):
        return place | {"device": "cpu"}
    return place | {"gpu": read_gpu_name(device), "driver": read_gpu_driver()}


def is_gpu(device: str | None) -> bool:
    """Tell a GPU of torch's, such as "cuda" or "cuda:1", from the processor.

    Example:
        >>> is_gpu("cuda:1"), is_gpu("cpu"), is_gpu(None)
        (True, False, False)
    """
    return device is not None and device.partition(":")[0] == "cuda"


def enter_gpu(device: str | None) -> AbstractContextManager[Any]:
    """Make a GPU that is named by its number the current one of this thread, for libraries that ask for that."""
    import torch

    return torch.cuda.device(device) if is_gpu(device) and ":" in str(device) else nullcontext()


def compute_in_half(device: str, variant: str | None) -> AbstractContextManager[Any]:
    """Let torch compute in the precision that a variant's name ends in; float32 where it ends in none."""
    import torch

    precision = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(str(variant).rpartition("-")[2])
    return torch.autocast(device.partition(":")[0], precision, enabled=precision is not None)


def place_module(module: Any) -> tuple[Any, str]:
    """Bring a module to the GPU where there is one.

    Returns:
        The module in evaluation mode, and its device, such as "cuda" or "cpu".
    """
    device = find_gpu() or "cpu"
    module = module.eval().to(device)
    if is_gpu(device):
        _put_channels_last(module)
    return module, device


def _put_channels_last(module: Any) -> None:
    """Lay the weights of convolutions as a GPU's kernels read them; of fewer or more axes there are none."""
    import torch

    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    for weights in module.parameters():
        if weights.ndim in formats:
            weights.data = weights.data.contiguous(memory_format=formats[weights.ndim])


def copy_to_processor(engine: E) -> E:
    """Copy an engine of torch's, whose module goes to the processor; the engine itself stays where it is."""
    copied = copy.copy(engine)
    copied.module = copy.deepcopy(engine.module).to("cpu")
    copied.device, copied.batch = "cpu", CPU_BATCH
    # Half precision was compared on the GPU alone, and is no gain on most processors.
    copied.variant = None
    return copied


def choose_batch(device: str) -> int:
    """Return how many windows torch is fastest with on a device."""
    return GPU_BATCH if is_gpu(device) else CPU_BATCH


def run_on_arrays(engine: Any, batch: NDArray[np.float32]) -> NDArray[np.float32]:
    """Run an engine that takes tensors on an array.

    Args:
        engine: with a ``device``.
        batch: (batch, channel, *space), float32.

    Returns:
        Logits in memory, float32, whatever the network computed in.
    """
    import torch

    logits = engine.run_tensor(torch.from_numpy(np.ascontiguousarray(batch)).to(engine.device))
    return np.asarray(logits.float().cpu().numpy())


def run_module(module: Any, batch: torch.Tensor) -> torch.Tensor:
    """Run a module on a batch.

    Args:
        module: a network, or a TorchScript one.
        batch: (batch, channel, *space), float32, where the module lies.

    Returns:
        Logits there, in what the network computed in.
    """
    import torch

    with torch.inference_mode(), _compute_exactly():
        logits: torch.Tensor = module(batch)
    return logits


@contextmanager
def _compute_exactly() -> Iterator[None]:
    """Keep a GPU from rounding what goes into a convolution or a product to TF32's ten bits, as torch lets it."""
    import torch

    # Not by cudnn.flags: what it is not told, it sets to its own defaults, and so turns cuDNN off.
    switches: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [switch.allow_tf32 for switch in switches]
    for switch in switches:
        switch.allow_tf32 = False
    try:
        yield
    finally:
        for switch, value in zip(switches, before, strict=True):
            switch.allow_tf32 = value
