"""What a run leaves on disk and in W&B: every side effect of training lives here."""
