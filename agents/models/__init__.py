"""Models by provider; a name that is not here is an endpoint of the scenario and speaks Chat Completions."""

MODELS = {
    "openai": "agents.models.openai_chat:OpenAIChat",
    "recorded": "agents.models.recorded:Recorded",
    "scripted": "agents.models.scripted:Scripted",
    "local": "agents.models.local:Local",
}
LOCAL_SERVERS = {"ollama": "http://127.0.0.1:11434", "llamacpp": "http://127.0.0.1:8080"}
"""Servers that are looked for on this machine, and that `ollama:NAME` and `llamacpp:NAME` speak with."""
