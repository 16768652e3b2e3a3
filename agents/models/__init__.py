"""Models by provider."""
