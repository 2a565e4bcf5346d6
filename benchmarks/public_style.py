"""Networks as public PyTorch code commonly writes them, for comparisons of speed.

They are written for these benchmarks, in the style of much-used repositories, and have the same
layers as what they stand beside (masked taps of PixelCNN's kernels included, which ours leaves out:
29 % more weights and products): NADE, PixelCNN and Gated PixelCNN
after EugenHotaj/pytorch-generative, the logistic-mixture network after pclucas14/pixel-cnn-pp, and
WaveNet with its queues after vincentherrmann/pytorch-wavenet. Images are drawn by a pass of the
whole network per pixel, as there. `forward` returns the loss of each example, in nats.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import (
    binary_cross_entropy_with_logits,
    cross_entropy,
    elu,
    logsigmoid,
    one_hot,
    pad,
    softplus,
)  # fmt: skip
from torch.nn.utils.parametrizations import weight_norm


def bernoulli_loss(logits: Tensor, x: Tensor) -> Tensor:
    return binary_cross_entropy_with_logits(logits, x, reduction="none").flatten(1).sum(1)


class NADE(nn.Module):
    """A loop over dimensions that concatenates what it draws."""

    def __init__(self, size: int, hidden: int) -> None:
        super().__init__()
        self.size = size
        self.in_weight = nn.Parameter(torch.zeros(hidden, size))
        self.in_bias = nn.Parameter(torch.zeros(hidden))
        self.out_weight = nn.Parameter(torch.zeros(size, hidden))
        self.out_bias = nn.Parameter(torch.zeros(size))
        nn.init.kaiming_normal_(self.in_weight)
        nn.init.kaiming_normal_(self.out_weight)

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        x = torch.full((n, self.size), -1.0)
        a, drawn = self.in_bias.expand(n, -1), []
        for i in range(self.size):
            h = torch.sigmoid(a)
            p = torch.sigmoid(h @ self.out_weight[i : i + 1].t() + self.out_bias[i : i + 1])
            given = x[:, i : i + 1]
            value = torch.where(given < 0, torch.distributions.Bernoulli(probs=p).sample(), given)
            drawn.append(value)
            a = a + value @ self.in_weight[:, i : i + 1].t()
        return torch.cat(drawn, 1)


class MaskedConv2d(nn.Conv2d):
    """A square convolution whose weight is overwritten by its masked self at each pass."""

    def __init__(self, see_centre: bool, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__(inputs, outputs, kernel, padding=kernel // 2)
        mask = torch.ones_like(self.weight)
        mask[:, :, kernel // 2, kernel // 2 + see_centre :] = 0
        mask[:, :, kernel // 2 + 1 :] = 0
        self.register_buffer("mask", mask)
        self.mask: Tensor

    def forward(self, x: Tensor) -> Tensor:
        self.weight.data *= self.mask
        return super().forward(x)


class ImageNetwork(nn.Module):
    """Binary images, drawn by a whole pass per pixel."""

    def forward(self, x: Tensor) -> Tensor:
        return bernoulli_loss(self.logits(x), x)

    def logits(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    @torch.no_grad()
    def draw_pixel(self, x: Tensor, row: int, column: int) -> None:
        logits = self.logits(x)[:, :, row, column]
        x[:, :, row, column] = torch.bernoulli(torch.sigmoid(logits))


class PixelCNN(ImageNetwork):
    """Residual blocks around a masked convolution."""

    def __init__(self, num_blocks: int, hidden: int, head: int = 32) -> None:
        super().__init__()
        self.input = MaskedConv2d(False, 1, 2 * hidden, 7)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.ReLU(), nn.Conv2d(2 * hidden, hidden, 1),
                nn.ReLU(), MaskedConv2d(True, hidden, hidden, 3),
                nn.ReLU(), nn.Conv2d(hidden, 2 * hidden, 1),
            )
            for _ in range(num_blocks)
        )  # fmt: skip
        self.head = nn.Sequential(
            nn.ReLU(), nn.Conv2d(2 * hidden, head, 1),
            nn.ReLU(), nn.Conv2d(head, head, 1),
            nn.ReLU(), nn.Conv2d(head, 1, 1),
        )  # fmt: skip

    def logits(self, x: Tensor) -> Tensor:
        x = self.input(x)
        for block in self.blocks:
            x = x + block(x)
        return self.head(x)  # type: ignore[no-any-return]


class GatedLayer(nn.Module):
    """Both stacks; kernels below and to the right are cropped by padding and slicing."""

    def __init__(self, inputs: int, width: int, kernel: int, is_first: bool) -> None:
        super().__init__()
        self.is_first, half = is_first, kernel // 2
        self.across = nn.Conv2d(inputs, width, (1, kernel), padding=(0, half))
        self.down = nn.Conv2d(width, 2 * width, (half + 1, 1), padding=(half + 1, 0))
        self.same = nn.Conv2d(inputs, 2 * width, 1)
        self.link = nn.Conv2d(2 * width, 2 * width, 1)
        self.left = nn.Conv2d(inputs, 2 * width, (1, half + 1), padding=(0, half + is_first))
        self.residual = nn.Conv2d(width, width, 1)
        self.skip = nn.Conv2d(width, width, 1)

    def forward(self, v: Tensor, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        down = self.down(self.across(v))[:, :, : v.shape[2]]
        a = self.link(down) + self.left(h)[:, :, :, : h.shape[3]]
        v = gate(down if self.is_first else down + self.same(v))
        z = gate(a)
        residual = self.residual(z)
        return v, residual if self.is_first else residual + h, self.skip(z)


def gate(a: Tensor) -> Tensor:
    signal, opening = a.chunk(2, 1)
    return torch.tanh(signal) * torch.sigmoid(opening)


class GatedPixelCNN(ImageNetwork):
    """Gated layers and the sum of their skips."""

    def __init__(self, num_layers: int, width: int, head: int = 32) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            GatedLayer(width if i else 1, width, 3 if i else 7, i == 0) for i in range(num_layers)
        )
        self.head = nn.Sequential(
            nn.ReLU(), nn.Conv2d(width, head, 1), nn.ReLU(), nn.Conv2d(head, 1, 1)
        )

    def logits(self, x: Tensor) -> Tensor:
        v = h = x
        total = torch.zeros(())
        for layer in self.layers:
            v, h, skip = layer(v, h)
            total = total + skip
        return self.head(total)  # type: ignore[no-any-return]


# -- the logistic-mixture network


def concat_elu(x: Tensor) -> Tensor:
    return elu(torch.cat([x, -x], 1))


class ShiftedConv(nn.Module):
    """A weight-normalised convolution over what lies above (and to the left)."""

    def __init__(self, inputs: int, outputs: int, left: bool, stride: int = 1) -> None:
        super().__init__()
        self.pad = (1, 0, 1, 0) if left else (1, 1, 1, 0)
        kernel = (2, 2) if left else (2, 3)
        self.conv = weight_norm(nn.Conv2d(inputs, outputs, kernel, stride))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(pad(x, self.pad))  # type: ignore[no-any-return]


class ShiftedDeconv(nn.Module):
    """Twice as many rows and columns."""

    def __init__(self, width: int, left: bool) -> None:
        super().__init__()
        self.left = left
        kernel = (2, 2) if left else (2, 3)
        self.deconv = weight_norm(
            nn.ConvTranspose2d(width, width, kernel, 2, output_padding=(0, 1))
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.deconv(x)
        side = 2 * x.shape[3]
        return y[:, :, :, :side] if self.left else y[:, :, :, 1 : side + 1]


class GatedResnet(nn.Module):
    """Two convolutions, a shortcut from another stream between them, and a gate."""

    def __init__(self, width: int, left: bool, extra: int) -> None:
        super().__init__()
        self.first = ShiftedConv(2 * width, width, left)
        self.nin = weight_norm(nn.Conv2d(2 * extra * width, width, 1)) if extra else None
        self.dropout = nn.Dropout2d(0.5)
        self.second = ShiftedConv(2 * width, 2 * width, left)

    def forward(self, x: Tensor, extra: Tensor | None = None) -> Tensor:
        y = self.first(concat_elu(x))
        if self.nin is not None and extra is not None:
            y = y + self.nin(concat_elu(extra))
        a, b = self.second(self.dropout(concat_elu(y))).chunk(2, 1)
        return x + a * torch.sigmoid(b)


class LogisticNetwork(nn.Module):
    """A network of three scales with shortcuts, and a mixture of discretised logistics."""

    def __init__(self, num_resnets: int, width: int, mixtures: int = 10) -> None:
        super().__init__()
        self.mixtures = mixtures

        def resnets(count: int, left: bool, extra: int) -> nn.ModuleList:
            return nn.ModuleList(GatedResnet(width, left, extra) for _ in range(count))

        counts = [num_resnets, num_resnets + 1, num_resnets + 1]
        self.first_u, self.first_l = ShiftedConv(4, width, False), ShiftedConv(4, width, True)
        self.up_u = nn.ModuleList(resnets(num_resnets, False, 0) for _ in range(3))
        self.up_l = nn.ModuleList(resnets(num_resnets, True, 1) for _ in range(3))
        self.down_u = nn.ModuleList(resnets(count, False, 1) for count in counts)
        self.down_l = nn.ModuleList(resnets(count, True, 2) for count in counts)
        self.shrink_u = nn.ModuleList(ShiftedConv(width, width, False, 2) for _ in range(2))
        self.shrink_l = nn.ModuleList(ShiftedConv(width, width, True, 2) for _ in range(2))
        self.grow_u = nn.ModuleList(ShiftedDeconv(width, False) for _ in range(2))
        self.grow_l = nn.ModuleList(ShiftedDeconv(width, True) for _ in range(2))
        self.output = weight_norm(nn.Conv2d(width, 10 * mixtures, 1))

    def outputs(self, x: Tensor) -> Tensor:
        x = torch.cat([x, torch.ones_like(x[:, :1])], 1)
        us = [self.first_u(pad(x, (0, 0, 1, 0))[:, :, :-1])]
        ls = [self.first_l(pad(x, (1, 0, 0, 0))[:, :, :, :-1])]
        for scale in range(3):
            for u, left in zip(self.up_u[scale], self.up_l[scale], strict=True):  # type: ignore[arg-type]
                us.append(u(us[-1]))
                ls.append(left(ls[-1], us[-1]))
            if scale < 2:
                us.append(self.shrink_u[scale](us[-1]))
                ls.append(self.shrink_l[scale](ls[-1]))
        u, h = us.pop(), ls.pop()
        for scale in range(3):
            for above, left in zip(self.down_u[scale], self.down_l[scale], strict=True):  # type: ignore[arg-type]
                u = above(u, us.pop())
                h = left(h, torch.cat([u, ls.pop()], 1))
            if scale < 2:
                u, h = self.grow_u[scale](u), self.grow_l[scale](h)
        return self.output(elu(h))  # type: ignore[no-any-return]

    def parameters_of(self, outputs: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return logits (N, H, W, K) and means, log scales, coefficients (N, H, W, 3, K)."""
        y = outputs.permute(0, 2, 3, 1)
        logits, rest = y[..., : self.mixtures], y[..., self.mixtures :]
        means, scales, coefficients = rest.view(*y.shape[:3], 3, 3 * self.mixtures).chunk(3, -1)
        return logits, means, scales.clamp(min=-7), torch.tanh(coefficients)

    def forward(self, levels: Tensor) -> Tensor:
        x = levels / 127.5 - 1
        logits, means, scales, c = self.parameters_of(self.outputs(x))
        x = x.permute(0, 2, 3, 1)[..., None].expand_as(means)
        green = means[..., 1, :] + c[..., 0, :] * x[..., 0, :]
        blue = means[..., 2, :] + c[..., 1, :] * x[..., 0, :] + c[..., 2, :] * x[..., 1, :]
        centred = x - torch.stack([means[..., 0, :], green, blue], -2)
        plus, minus = ((centred + s / 255) * torch.exp(-scales) for s in (1, -1))
        between = torch.sigmoid(plus) - torch.sigmoid(minus)
        middle = centred * torch.exp(-scales)
        density = middle - scales - 2 * softplus(middle)
        inner = torch.where(between > 1e-5, torch.log(between.clamp(min=1e-12)), density - 4.848116)
        upper = torch.where(x > 0.999, -softplus(minus), inner)
        terms = torch.where(x < -0.999, logsigmoid(plus), upper).sum(3)
        nats = -torch.logsumexp(terms + torch.log_softmax(logits, -1), -1)
        return nats.flatten(1).sum(1)

    @torch.no_grad()
    def draw_pixel(self, levels: Tensor, row: int, column: int) -> None:
        outputs = self.outputs(levels / 127.5 - 1)
        logits, means, scales, c = self.parameters_of(outputs)
        gumbel = -torch.log(-torch.log(torch.rand_like(logits).clamp(1e-5, 1 - 1e-5)))
        chosen = one_hot((logits + gumbel).argmax(-1), self.mixtures)[..., None, :].to(means.dtype)
        means, scales, c = ((values * chosen).sum(-1) for values in (means, scales, c))
        uniform = torch.rand_like(means).clamp(1e-5, 1 - 1e-5)
        x = means + torch.exp(scales) * (torch.log(uniform) - torch.log1p(-uniform))
        red = x[..., 0].clamp(-1, 1)
        green = (x[..., 1] + c[..., 0] * red).clamp(-1, 1)
        blue = (x[..., 2] + c[..., 1] * red + c[..., 2] * green).clamp(-1, 1)
        drawn = torch.stack([red, green, blue], 1)[:, :, row, column]
        levels[:, :, row, column] = ((drawn + 1) * 127.5).round()


# -- WaveNet


class WaveNet(nn.Module):
    """One-hot samples, a filter and a gate convolution per layer, drawn by queues."""

    def __init__(self, num_blocks: int, cycle: int, width: int, gates: int, skips: int) -> None:
        super().__init__()
        self.dilations = [2**i for i in range(cycle)] * num_blocks
        self.start = nn.Conv1d(256, width, 1)
        self.filters, self.gates = (
            nn.ModuleList(nn.Conv1d(width, gates, 2, dilation=d) for d in self.dilations)
            for _ in range(2)
        )
        self.residuals = nn.ModuleList(nn.Conv1d(gates, width, 1) for _ in self.dilations)
        self.skips = nn.ModuleList(nn.Conv1d(gates, skips, 1) for _ in self.dilations)
        self.end = nn.Sequential(
            nn.ReLU(), nn.Conv1d(skips, skips, 1), nn.ReLU(), nn.Conv1d(skips, 256, 1)
        )

    def forward(self, levels: Tensor) -> Tensor:
        """Score samples after the first, each by those before it."""
        x = self.start(one_hot(levels[:, :-1], 256).float().transpose(1, 2))
        total = torch.zeros(())
        layers = zip(
            self.dilations, self.filters, self.gates, self.residuals, self.skips, strict=True
        )
        for dilation, filters, gates, residual, skip in layers:
            seen = pad(x, (dilation, 0))
            z = torch.tanh(filters(seen)) * torch.sigmoid(gates(seen))
            total = total + skip(z)
            x = x + residual(z)
        return cross_entropy(self.end(total), levels[:, 1:], reduction="none").sum(1)

    @torch.no_grad()
    def sample(self, n: int, length: int) -> Tensor:
        width = self.start.out_channels
        queues = [torch.zeros(n, width, d + 1) for d in self.dilations]
        value, drawn = torch.full((n,), 128), []
        for t in range(length):
            x = self.start(one_hot(value, 256).float()[:, :, None])
            total = torch.zeros(())
            for i, queue in enumerate(queues):
                size = queue.shape[2]
                queue[:, :, t % size] = x[:, :, 0]
                old = queue[:, :, (t + 1) % size]
                seen = torch.stack([old, x[:, :, 0]], 2)
                filtered, gated = (
                    torch.conv1d(seen, layer.weight, layer.bias)
                    for layer in (self.filters[i], self.gates[i])
                )
                z = torch.tanh(filtered) * torch.sigmoid(gated)
                total = total + self.skips[i](z)
                x = x + self.residuals[i](z)
            probabilities = torch.softmax(self.end(total)[:, :, 0], 1)
            value = torch.multinomial(probabilities, 1)[:, 0]
            drawn.append(value)
        return torch.stack(drawn, 1)
