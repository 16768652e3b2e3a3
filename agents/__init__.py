"""Who speaks: roles, and the models and tools they think and act with.

role.py           contract · roles/ planner, researcher, coder, critic, each with its prompt beside it
context.py        all a role may use while it works · journal.py effects answered again instead of done again
dialogue.py       the model-and-tools conversation as a pure state machine
model.py          contract · models/ one file each · endpoint.py Chat Completions · tries.py what follows a failed try
tool.py           contract · tools/ one file each · project_folder.py the attempt's folder, confined
check.py          contract · checks/ one file each · sandbox.py contract · sandboxes/ one file each
"""
