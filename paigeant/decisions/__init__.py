"""Pure decisions: what follows the outcome of a step. Nothing here does I/O."""
