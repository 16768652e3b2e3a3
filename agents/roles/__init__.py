"""The four roles that are always there, by name. Each has its prompt beside it as `NAME.md`."""

ROLES = {
    "planner": "agents.roles.planner:Planner",
    "researcher": "agents.roles.researcher:Researcher",
    "coder": "agents.roles.coder:Coder",
    "critic": "agents.roles.critic:Critic",
}
