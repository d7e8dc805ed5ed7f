"""lus_lightning: published lung ultrasound severity methods as PyTorch Lightning experiments. Research only."""

__version__ = "0.1.0"
