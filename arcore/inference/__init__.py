"""What a trained model infers: missing or noisy parts, classes, features, outliers.

Functions of a model and tensors, and a detector. No weights are trained here.
"""

from arcore.inference.outlier_detection import OutlierDetector as OutlierDetector
from arcore.inference.outlier_detection import Threshold as Threshold
