"""Command lines that several test files share."""

from pathlib import Path

EXPERIMENTS = Path(__file__).parents[1] / "experiments"


def words(recipe, overlay, root, folder, *more, logger="csv"):
    """Options that shrink a shipped recipe to seconds on the tiny simulated study."""
    files = [recipe, *([overlay] if overlay else []), *([EXPERIMENTS / "with/no-wandb.yaml"] if logger == "csv" else [])]
    configs = [word for file in files for word in ("--config", str(file))]
    small = ["--data.init_args.root", str(root), "--data.init_args.iterations=1", "--data.init_args.num_workers=0",
             "--data.init_args.choice.max_frames=1", "--data.init_args.size=64", "--data.init_args.split.test_share=0.25",
             "--data.init_args.split.stratify=score",
             "--model.init_args.weights=none", "--trainer.default_root_dir", str(folder),
             "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false", "--trainer.log_every_n_steps=1"]  # fmt: skip
    own = {
        # Never ResNet152, and a validation part that has every sign.
        "four-signs": ["--model.init_args.network=test_resnet", "--data.init_args.split.val_share=0.25"],
        # Not every picture at 299 pixels through Xception, five times.
        "raillard": ["--model.init_args.networks=[test_resnet,resnet10t,vgg11]", "--model.init_args.sizes=[64,32,32]"],
        "munoz": [
            "--model.init_args.encoder=tu-test_resnet",
            "--model.init_args.decoder_channels=[8,8,8]",
            "--data.init_args.split.val_share=0.25",
        ],
        "corso": [
            "--model.init_args.backbone=test_resnet",
            "--trainer.max_epochs=1",
            "--data.init_args.split.val_share=0.25",
        ],
        "corso-frames": ["--model.init_args.network=test_resnet", "--trainer.max_epochs=1", "--data.init_args.split.val_share=0.25"],
        "munoz-classifier": ["--model.init_args.network=test_resnet", "--data.init_args.split.val_share=0.25"],
    }
    return [*configs, *small, *own.get(recipe.stem, []), *more]
