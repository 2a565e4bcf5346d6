"""Draw the false-positive rates that thresholds reach on test images.

Example: python docs/outlier_rates.py digits-nade
"""

import sys
from pathlib import Path

import numpy as np

from arcore.inference import OutlierDetector
from pipeline.uses import pictures, use_context


def main() -> None:
    """Fit detectors to validation images for many rates, and draw what they reach."""
    context = use_context.load(sys.argv[1])
    valid, test = (context.rows(split).x for split in ("valid", "test"))
    figure, axes = pictures.new_axes(4.5, 3.4)
    stated = np.linspace(0.01, 0.3, 30)
    fitted = [OutlierDetector(context.model, float(rate)).fit(valid) for rate in stated]
    scores = fitted[0].score_samples(test)
    reached = [float((scores < one.threshold.score).double().mean()) for one in fitted]
    ends = [[one.threshold.low for one in fitted], [one.threshold.high for one in fitted]]
    axes.fill_between(stated, *ends, alpha=0.2, label=f"95 %, {len(valid)} validation images")
    axes.plot(stated, reached, label=f"{len(test)} test images")
    axes.plot(stated, stated, "k:", linewidth=1)
    axes.set(xlabel="stated false-positive rate", ylabel="rate reached")
    axes.legend(fontsize=7)
    figure.savefig(
        Path(__file__).parent / "images" / "outlier_rates.png", metadata={"Software": None}
    )
    print(
        ", ".join(f"{rate:.2f}: {found:.3f}" for rate, found in zip(stated, reached, strict=True))
    )


if __name__ == "__main__":
    main()
