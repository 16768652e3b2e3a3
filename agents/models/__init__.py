"""Models by provider; a name that is not here is an endpoint of the scenario and speaks Chat Completions."""

MODELS = {
    "openai": "agents.models.openai_chat:OpenAIChat",
    "recorded": "agents.models.recorded:Recorded",
    "scripted": "agents.models.scripted:Scripted",
    "local": "agents.models.local:Local",
}
