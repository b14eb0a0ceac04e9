"""Looking into an unmodified model: `jaxact.probe`, `jaxact.swap`, `jaxact.revive`."""
