"""WaveNet's generation by queues against a full pass over the receptive field per sample.

The network has three cycles of dilations 1 to 512, 32 residual and 256 skip channels and 256
levels; weights are random. "Queues" is what `sample` does, "window" evaluates the parallel network
on the last `receptive_field` samples and the head at the last one alone, for each sample.
Repeats and seconds are as in benchmarks/sampling.py.

    python benchmarks/wavenet.py [--samples 2000] [--windows 5] [--repeats 3] [--threads 1]
    python benchmarks/wavenet.py --quick
"""

import measuring
import torch
from measuring import Clock
from torch import Tensor

import arcore
from arcore.models.wavenet import WaveNet

SHAPE = {"num_blocks": 3, "cycle": 10, "width": 32, "gate_width": 32, "skip_width": 256}
BATCHES = (1, 16)
CONDITIONS = {
    "unconditional": {},
    "speaker": {"num_classes": 6},
    "speaker and text": {"num_classes": 6, "local_classes": 10},
}


def condition_of(model: WaveNet, batch: int, length: int) -> Tensor | None:
    p = model.hyperparameters
    if p.num_classes is None:
        return None
    frames = -(-length // model.hop) if p.local_classes else 0
    condition = torch.zeros(batch, 1 + frames, dtype=torch.int64)
    return condition if p.local_classes else condition[:, 0]


def queue_seconds(model: WaveNet, batch: int, samples: int, clock: Clock) -> float:
    """Return the seconds that a sample takes, of all sequences together, by queues."""
    fixed, condition = model.of_length(samples), condition_of(model, batch, samples)
    began = clock()
    fixed.sample(batch, condition)
    return (clock() - began) / samples


@torch.no_grad()
def window_seconds(model: WaveNet, batch: int, windows: int, clock: Clock) -> float:
    """Return the seconds that a sample takes by a pass over the receptive field."""
    field = model.receptive_field
    x = torch.randint(256, (batch, field + 1))
    condition = condition_of(model, batch, field + 1)
    last = torch.tensor([[field, field + 1]]).expand(batch, 2)
    began = clock()
    for _ in range(windows):
        model.log_prob(x, condition, last)
    return (clock() - began) / windows


def main() -> None:
    parser = measuring.parser(__doc__, threads=1)
    parser.add_argument("--samples", type=int, default=2000, help="generated in a repeat")
    parser.add_argument("--windows", type=int, default=5, help="full passes in a repeat")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="100 samples, once")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.samples, arguments.windows, arguments.repeats = 100, 1, 1
    torch.set_num_threads(arguments.threads)
    clock = measuring.clock_of(arguments.threads)
    print(f"{measuring.machine()}, {arguments.threads} threads, load {measuring.load()}")
    print("30 layers, 32 residual, 256 skip channels, 256 levels; targets: window/queues >= 60 at")
    print("batch 1; at batch 16 more than 1,600 samples/s or 4 times those of batch 1")
    columns = ("batch", "samples/s by queues", "by windows", "window/queues", "batch 16/1")
    measuring.table_head("condition", *columns)
    record = []
    for name, condition in CONDITIONS.items():
        torch.manual_seed(0)
        event = arcore.events.Levels(256, (None,))
        model = arcore.create_model("wavenet", event, **SHAPE, **condition).eval()
        assert isinstance(model, WaveNet)
        alone = 0.0
        for batch in BATCHES:
            window_seconds(model, batch, 1, clock)
            queue_seconds(model, batch, 20, clock)
            times = [
                (
                    queue_seconds(model, batch, arguments.samples, clock),
                    window_seconds(model, batch, arguments.windows, clock),
                )
                for _ in range(arguments.repeats)
            ]
            queues, windows, ratio = measuring.medians(times)
            rates = {"queues": batch / queues, "windows": batch / windows, "ratio": ratio}
            record.append({"name": name, "batch": batch, **rates})
            alone = alone or batch / queues
            gain = "" if batch == 1 else f"{batch / queues / alone:.1f}"
            print(
                f"| {name} | {batch} | {batch / queues:,.0f} | {batch / windows:.1f} | {ratio:.0f} "
                f"| {gain} |",
                flush=True,
            )
    measuring.write(arguments.json, {"rows": record})


if __name__ == "__main__":
    main()
