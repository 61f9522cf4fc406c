"""Networks of real use: read, any batch, as onnxruntime computes them."""

import numpy as np
import pytest
import torch

from withstand.graph.onnx_reader import read_onnx
from withstand.graph.replay import OnnxSession

FILES = [
    "models/cifar-base-kw.onnx",
    "models/fastestdet-coco80.onnx",
    "models/mnist-cnn-a-adv.onnx",
    "models/mnist-cnn-small-cert.onnx",
    "models/mnist-conv-small-nat.onnx",
    "models/mnist-fc-6x100-nat.onnx",
    "models/mnist-pgd-0.3.onnx",
    "models/mnist-plain.onnx",
    "models/mnist-wk17a-0.1.onnx",
    "models/pilotnet-udacity.onnx",
    "models/points-autoencoder.onnx",
    "vnncomp2021/acasxu/ACASXU_run2a_1_1_batch_2000.onnx",
    "vnncomp2021/acasxu/ACASXU_run2a_5_9_batch_2000.onnx",
    "vnncomp2021/eran/ffnnSIGMOID__Point_6x200.onnx",
    "vnncomp2021/eran/mnist_relu_9_200.onnx",
    "vnncomp2021/mnistfc/mnist-net_256x2.onnx",
    "vnncomp2021/mnistfc/mnist-net_256x4.onnx",
    "vnncomp2021/oval21/cifar_base_kw.onnx",
    "vnncomp2021/verivital/Convnet_avgpool.onnx",
    "vnncomp2021/verivital/Convnet_maxpool.onnx",
]


@pytest.mark.parametrize("file", FILES)
def test_network_runs_on_any_batch_as_onnxruntime_does(shared, file):
    model = read_onnx(shared / file, check=False)
    x = torch.rand(2, *model.input_shape, generator=torch.Generator().manual_seed(5))
    theirs = OnnxSession(shared / file)(x.numpy())
    assert theirs.shape == (2, *model.output_shape)
    np.testing.assert_allclose(model(x).numpy(), theirs, rtol=1e-3, atol=1e-4)
    assert model.onnx_bytes() == (shared / file).read_bytes()


def test_all_acasxu_networks_pass_the_check(shared):
    files = sorted((shared / "vnncomp2021/acasxu").glob("*.onnx"))
    assert len({read_onnx(file).digest() for file in files}) == len(files) == 45


def test_gradients_flow_to_the_input(shared):
    model = read_onnx(shared / "models/mnist-plain.onnx")
    x = torch.rand(4, *model.input_shape, requires_grad=True)
    (grad,) = torch.autograd.grad(model(x).sum(), x)
    assert grad.shape == x.shape
    assert float(grad.abs().sum()) > 0
