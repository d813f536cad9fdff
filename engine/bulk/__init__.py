"""Many runs from one request: prompts with alternatives, and plots of two settings."""
