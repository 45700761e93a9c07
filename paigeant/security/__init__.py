"""On whose behalf workflows run."""
