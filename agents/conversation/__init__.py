"""The parts of a conversation with a model: `agents/dialogue.py` puts them together.

steps.py what to do next · messages.py shapes of messages · calls.py which calls of a reply are run · fitting.py the
context window · repetition.py the same again · structured.py answers as data · json_actions.py actions as JSON ·
requests.py each ask whole again, from the log · recording.py what a log knows to answer ·
difference.py where two requests part
"""
