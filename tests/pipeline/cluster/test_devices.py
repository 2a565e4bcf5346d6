"""The device of a stage's own process, and what it computes there."""

import pytest
import torch

from pipeline.cluster.devices import exact, local_device
from pipeline.core.errors import UserError
from pipeline.experiments.schema import ClusterConfig

GPU = ClusterConfig(use_gpu=True)


def test_a_head_without_a_gpu_computes_on_its_processor(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(UserError, match="cluster.use_gpu: expected a CUDA device"):
        local_device(GPU)
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert local_device(GPU) == torch.device("cpu")
    assert "this machine has no CUDA device" in caplog.text


def test_cuda_convolves_in_float32_and_the_same_each_time() -> None:
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, cudnn.deterministic
    torch.set_float32_matmul_precision("high")
    try:
        assert exact(torch.device("cpu")).type == "cpu"
        assert (cudnn.allow_tf32, cudnn.deterministic) == before and matmul.allow_tf32
        assert exact(torch.device("cuda")).type == "cuda"
        assert (cudnn.allow_tf32, cudnn.deterministic) == (False, True) and not matmul.allow_tf32
    finally:
        cudnn.allow_tf32, cudnn.deterministic = before
        torch.set_float32_matmul_precision("highest")
