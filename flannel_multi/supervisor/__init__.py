"""The parent process: who should run, who runs, since when, and why it last died."""
