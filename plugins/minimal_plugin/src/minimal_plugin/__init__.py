"""The smallest WorldFlux plugin."""
