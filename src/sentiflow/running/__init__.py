"""Running the stages: DVC in processes of its own, in which order, what makes one stale, and what a killed run left behind."""
