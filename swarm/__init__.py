"""State a goal; agents plan, use tools, write, check and finish on their own. `import swarm` is all one imports."""
